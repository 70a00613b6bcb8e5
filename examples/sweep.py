"""From a data folder to a submission: python examples/sweep.py [DATA]. Without DATA, on synthetic photographs."""

import sys
from pathlib import Path

import forage
from pasture.synthetic import make_data

SPACE = {
    "base": "frozen_mlp",
    "search": {
        "head.dropout": {"uniform": [0.1, 0.5]},
        "optimizer.head_lr": {"log_uniform": [0.0003, 0.01]},
    },
}


def main(data: Path, trials: int = 2) -> None:
    """Search, blend, predict."""
    # Small pictures and few epochs, so that the example is quick; leave out `settings` for real work.
    settings = {"view.size": 64, "schedule.epochs": 5, "validation.folds": 3}
    run = forage.launch(data, SPACE, trials=trials, name="sweep", settings=settings, pruner="none")
    print(run.trials[["trial", "status", "score", "head.dropout", "optimizer.head_lr"]])

    blend = forage.build(run, "blend")
    for warning in blend.warnings:
        print("note:", warning)
    print(f"nested R2 {blend.scores['nested']:.3f}, best single trial {blend.scores['best_single']:.3f}")

    predictions = blend.predict(data)
    forage.write_submission("submission.csv", predictions, data)
    print(predictions.describe())


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data")
    if not folder.exists():
        make_data(folder, images=24, width=256, height=128)
    main(folder)
