"""Makes tests/assets/golden.tar.xz: a run and a blend of this version, which later versions must open.

    python tests/assets/make_golden.py

Run it when the format number of runs or blends rises, and keep the archive of the old format beside the new one for as
long as it can be read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.prediction.predict import predict
from pasture.dataset import read_test, read_train
from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from pasture.verification import verify
from search_spaces.space import Space
from trainables.features import embeddings
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import versions
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial
from tune.records.ledger import Ledger
from tune.records.plan import Plan

ARCHIVE = Path(__file__).parent / "golden.tar.xz"
BASE = Recipe().with_overrides(
    {
        "view.kind": "whole",
        "backbone.name": "bank:golden",
        "head.kind": "ridge",
        "validation": {"splitter": "group", "folds": 3},
        "schedule": {"epochs": 3, "batch_size": 8},
        "optimizer.head_lr": 0.03,
    }
)
RECIPES = [BASE, BASE.with_overrides({"head.kind": "mlp", "head.hidden": [4]})]


def main() -> None:
    """Write the archive anew."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FORAGE_CACHE"] = f"{scratch}/cache"
        _write(Path(scratch, "assets", "golden"))
        shutil.make_archive(str(ARCHIVE).removesuffix(".tar.xz"), "xztar", Path(scratch, "assets"), "golden")


def _write(folder: Path) -> None:
    """A data folder, a run, a blend, and what the blend predicts."""
    make_data(folder / "data", images=12, test_images=3, seed=1, width=128, height=64)
    data, test = read_train(folder / "data"), read_test(folder / "data")
    for pictures in ("train", "test"):
        shutil.rmtree(folder / "data" / pictures)  # embeddings replace them
    (folder / "data" / "hidden_truth.csv").unlink()
    embeddings.write("golden", [*data.ids, *test.ids], _features(data.targets, len(test)))
    run = _write_run(RunFolder(folder / "run"), folder / "data")
    build([run], folder / "blend", "none", "uniform")
    predictions = predict(Blend.read(folder / "blend"), test)
    expected = {"predictions": dict(zip(test.ids, predictions.round(4).tolist(), strict=True))}
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


def _features(targets: np.ndarray, unknown: int) -> np.ndarray:
    """(n, 6) embeddings: noisy targets of the labelled images, means of two for the others."""
    draw = np.random.default_rng(0)
    hidden = np.array([targets[draw.choice(len(targets), 2)].mean(axis=0) for _ in range(unknown)])
    values = np.log1p(np.concatenate([targets, hidden]))
    return np.column_stack([values + draw.normal(0, 0.2, values.shape), np.ones(len(values))])


def _write_run(run: RunFolder, data: Path) -> RunFolder:
    """Two complete trials, one pruned and one failed, as a sweep would have left them."""
    dataset = verify(read_train(data), needs_pictures=False)
    run.write_truth(dataset)
    embeddings.publish("golden", run.banks)
    search = {"head.kind": {"choice": ["ridge", "mlp"]}}
    Plan(
        trials=4, data="data", space=Space.parse({"base": BASE.to_dict(), "search": search}).to_dict(),
        search="random", seed=0, fingerprint=dataset.content, versions=versions(),
    ).write(run)  # fmt: skip
    ledger = Ledger(run)
    for recipe in RECIPES:
        record = ledger.propose({"head.kind": recipe.head.kind}, recipe)
        trial = Trial(record.name, recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu"))))
        while not trial.done:
            record.report(trial.step())
        write_finished(run, trial)
        record.status = "COMPLETE"
        ledger.write(record)
    pruned = ledger.propose({"head.kind": "mlp"}, RECIPES[1])
    pruned.report(ledger.records["t0001"].curve[0])
    pruned.status = "PRUNED"
    ledger.write(pruned)
    ledger.propose({"head.kind": "mlp"}, None, "head.hidden: an example of an error")
    return run


if __name__ == "__main__":
    main()
