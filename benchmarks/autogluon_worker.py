"""AutoGluon's EnsembleSelection, in an environment of its own: `selection.py` starts it there and talks to it.

    python autogluon_worker.py MEMBERS.npz STEPS

For every line on standard input it selects once and prints the weights as a line of JSON.
"""

import json
import sys

import numpy as np
from autogluon.core.constants import REGRESSION
from autogluon.core.metrics import root_mean_squared_error
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection


def main() -> None:
    """Select whenever asked to."""
    with np.load(sys.argv[1]) as members:
        predictions, labels = list(members["predictions"]), members["labels"]
    print("ready", flush=True)
    for _ in sys.stdin:
        chosen = EnsembleSelection(int(sys.argv[2]), REGRESSION, root_mean_squared_error)
        chosen.fit(predictions, labels)
        print(json.dumps(chosen.weights_.tolist()), flush=True)


if __name__ == "__main__":
    main()
