"""Pools and run directories made from arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.members.pool import Member, Pool
from pasture.dataset import Dataset
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array, from_components

Write = Callable[..., OofTable]
MakePool = Callable[..., Pool]


@pytest.fixture
def truth() -> pd.DataFrame:
    """Twelve images on four dates; index image_id, columns date and the five targets."""
    rng = np.random.default_rng(0)
    ids = [f"ID{i:02}" for i in rng.permutation(12)]
    table = pd.DataFrame(from_components(rng.gamma(2.0, 10.0, (12, 3))), index=ids, columns=list(TARGETS))
    table.insert(0, "date", pd.to_datetime([f"2015-0{i // 3 + 1}-01" for i in range(12)]))
    return table


@pytest.fixture
def make_run(tmp_path: Path, truth: pd.DataFrame) -> Callable[..., RunFolder]:
    """`make_run(name, truth=...)`: a run directory that holds the truth."""
    default = truth

    def make(name: str, truth: pd.DataFrame = default) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.write_truth(Dataset(tmp_path, truth))
        return run

    return make


@pytest.fixture
def write_trial(truth: pd.DataFrame) -> Write:
    """`write_trial(run, trial, ...)`: a finished trial whose folds keep dates together unless told otherwise."""

    def write(
        run: RunFolder,
        trial: str,
        ids: Sequence[str] = tuple(truth.index),
        folds: Sequence[int] | None = None,
        elements: int = 8,
        epochs: int = 3,
        seed: int = 1,
        **metadata: Any,
    ) -> OofTable:
        rng = np.random.default_rng(seed)
        if folds is None:
            codes = dict(zip(truth.index, pd.factorize(truth["date"])[0] % 2, strict=True))
            folds = [codes.get(i, 0) for i in ids]
        content = {
            "recipe": {"backbone": {"name": "lite0"}, "seed": seed},
            "recipe_hash": f"{run.name}-{trial}",
            "epoch": 1,
            "fingerprint": "f" * 64,
        } | metadata
        predictions = rng.gamma(2.0, 10.0, (len(ids), elements, 5))
        table = OofTable(list(ids), np.asarray(folds, dtype=np.int8), predictions, content)
        table.write(run.oof, f"{trial}.parquet")
        if epochs:
            run.write_epochs(trial, rng.gamma(2.0, 10.0, (epochs, len(ids), 5)))
        return table

    return write


@pytest.fixture
def make_pool(tmp_path: Path) -> MakePool:
    """`make_pool(truth, dates, predictions, ...)`: a pool in memory, from (n, 5), (n,) and (m, n, 5)."""

    def make(
        truth: Array,
        dates: Array,
        predictions: Array,
        epochs: Array | None = None,
        epoch: Sequence[int] | None = None,
    ) -> Pool:
        members = [
            Member(
                key=f"run-{i:04}",
                run=RunFolder(tmp_path / "run"),
                trial=f"{i:04}",
                recipe={"backbone": {"name": f"lite{i % 3}"}, "head": {"hidden": [i]}},
                recipe_hash=f"{i:012}",
                score=weighted_r2(truth, member),
                epoch=0 if epoch is None else epoch[i],
                predictions=member,
                epochs=None if epochs is None else epochs[i].astype(np.float32),
                folds=np.zeros(len(truth), dtype=np.int8),
            )
            for i, member in enumerate(predictions)
        ]
        ids = [f"ID{i:04}" for i in range(len(truth))]
        return Pool(ids, truth, dates.astype(str), "f" * 64, members, [], [])

    return make
