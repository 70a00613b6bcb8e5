"""Sweeps without Ray, for outer cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from forage.outer_cv import run_sweeps
from pasture.dataset import read_train
from pasture.run_folder import RunFolder
from pasture.verification import verify
from search_spaces.space import Space
from trainables.features.context import TrialContext
from trainables.recipe.versions import versions
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial
from tune.records.ledger import Ledger
from tune.records.plan import Limits, Plan
from tune.session import Outcome

SPACE: dict[str, Any] = {
    "base": {
        "view": {"kind": "whole", "size": 32},
        "backbone": {"name": "test_efficientnet", "weights": "none"},
        "head": {"hidden": [8]},
        "validation": {"folds": 2},
        "schedule": {"epochs": 2, "batch_size": 8},
    },
    "search": {"head.dropout": {"uniform": [0.0, 0.5]}, "optimizer.head_lr": {"log_uniform": [1e-3, 1e-1]}},
    "start": [{"head.dropout": 0.1}, {"head.dropout": 0.2}],
}


@pytest.fixture
def space() -> Space:
    """Two fields and two start recipes."""
    return Space.parse(SPACE)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the runs that `launch` was called for. It trains the start recipes, and the base with other seeds, in
    this process."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
    names: list[str] = []

    def launch(
        run: RunFolder, data: Path, space: Space, limits: Limits, *, search: str, seed: int, **_: Any
    ) -> Outcome:
        names.append(run.name)
        dataset = verify(read_train(data).hold_out(limits.outer))
        run.write_truth(dataset)
        facts: Any = {"data": str(data), "space": space.to_dict(), "search": search, "seed": seed}
        Plan(**limits.model_dump(), **facts, fingerprint=dataset.content, versions=versions()).write(run)
        ledger = Ledger(run)
        starts = [recipe for _, recipe in space.starts()] if limits.start else []
        for number in range(limits.trials):
            recipe = starts[number] if number < len(starts) else space.base.with_overrides({"seed": 10 * seed + number})
            record = ledger.propose({}, recipe, origin="start" if number < len(starts) else "search")
            trial = Trial(
                record.name, recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu")))
            )
            while not trial.done:
                record.report(dict(trial.step()))
            write_finished(run, trial)
            record.status = "COMPLETE"
            ledger.write(record)
        return Outcome(run, ledger)

    monkeypatch.setattr(run_sweeps, "launch", launch)
    return names
