"""Images of outer dates: nothing of them reaches training or the OOF, and they are predicted at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pasture.folds import OUTER
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from pasture.verification import VerifiedDataset, with_fingerprint
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.trial import Trial

MakeTrial = Callable[..., Trial]
EVERYTHING_FITTED: dict[str, Any] = {
    "loss.lds.enabled": True,
    "loss.distillation": 0.3,
    "loss.auxiliary": 0.2,
    "target.transform": "log1p_z",
}
"""Each of these is fitted to the training rows."""


@pytest.fixture
def held(dataset: VerifiedDataset) -> VerifiedDataset:
    """`dataset` with two of its six dates held out."""
    return dataset.hold_out(sorted(set(dataset.dates))[1:3])


@pytest.fixture
def tampered(held: VerifiedDataset) -> VerifiedDataset:
    """The same with other targets and metadata in the rows of outer dates."""
    images = held.images.copy()
    images.loc[held.outer, list(TARGETS)] = 10 * images.loc[held.outer, list(TARGETS)] + 100
    images.loc[held.outer, ["ndvi", "height_cm"]] = [0.01, 99.0]
    images.loc[held.outer, "species"] = "Barley"
    dataset = with_fingerprint(held, held.content)
    return VerifiedDataset(dataset.root, pd.DataFrame(images), dataset.content, outer_dates=held.outer_dates)


def _finished(trial: Trial) -> dict[str, Any]:
    """Everything that a trial leaves behind but for the time it took."""
    while not trial.done:
        trial.step()
    table, outer = trial.finish(), trial.outer_table()
    assert outer is not None
    return {
        "scores": [report["score"] for report in trial.curve],
        "oof": table.predictions,
        "outer": outer.predictions,
        "epochs": np.array(trial.epochs),
        **{
            f"{name} of fold {fold}": tensor.numpy()
            for fold in trial.fold_numbers
            for name, tensor in trial.executor.kept(fold).items()
        },
    }


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["frozen", "tuned", "ridge", "fitted to everything"])
def test_targets_and_metadata_of_outer_rows_change_nothing(
    make_trial: MakeTrial,
    frozen_recipe: Recipe,
    tuned_recipe: Recipe,
    held: VerifiedDataset,
    tampered: VerifiedDataset,
    kind: str,
) -> None:
    recipe = {
        "frozen": frozen_recipe,
        "tuned": tuned_recipe,
        "ridge": frozen_recipe.with_overrides({"head.kind": "ridge"}),
        "fitted to everything": frozen_recipe.with_overrides(EVERYTHING_FITTED),
    }[kind]
    one, other = _finished(make_trial(recipe, held)), _finished(make_trial(recipe, tampered))
    assert list(one) == list(other)
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


def test_a_trial_is_what_it_would_be_without_the_outer_rows(
    make_trial: MakeTrial, frozen_recipe: Recipe, held: VerifiedDataset
) -> None:
    """Not only their targets: rows that are not there cannot be trained on either."""
    alone = with_fingerprint(
        VerifiedDataset(held.root, pd.DataFrame(held.images[~held.outer]), held.content), held.fingerprint
    )
    with_them, without = make_trial(frozen_recipe, held, epochs=3), make_trial(frozen_recipe, alone, epochs=3)
    assert [r["score"] for r in with_them.curve] == [r["score"] for r in without.curve]
    assert with_them.finish().image_ids == without.finish().image_ids == alone.ids
    assert without.outer_table() is None


def test_the_outer_table_is_the_mean_over_folds(
    make_trial: MakeTrial, frozen_recipe: Recipe, held: VerifiedDataset
) -> None:
    trial = make_trial(frozen_recipe, held, epochs=4)
    trial.finish()
    table = trial.outer_table()
    assert table is not None
    rows = np.flatnonzero(held.outer)
    assert table.image_ids == [held.ids[row] for row in rows]
    assert set(table.folds.tolist()) == {OUTER}
    learners = trial.executor.learners.values()  # type: ignore[attr-defined]
    assert np.array_equal(
        table.predictions, np.mean([fold.predict(rows, tuple(range(8))) for fold in learners], axis=0)
    )


def test_the_outer_table_lies_beside_the_oof(
    make_trial: MakeTrial, frozen_recipe: Recipe, held: VerifiedDataset, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    trial = make_trial(frozen_recipe, held, epochs=6)
    write_finished(run, trial)
    outer, oof = OofTable.read(run.outer, "trial.parquet"), run.read_oof("trial")
    assert set(outer.image_ids) == {i for i, out in zip(held.ids, held.outer, strict=True) if out}
    assert not set(outer.image_ids) & set(oof.image_ids)
    assert outer.metadata["fingerprint"] == oof.metadata["fingerprint"] == held.fingerprint


def test_without_outer_dates_no_outer_table_is_written(
    make_trial: MakeTrial, frozen_recipe: Recipe, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    write_finished(run, make_trial(frozen_recipe, epochs=1))
    assert not run.outer.exists("trial.parquet")
