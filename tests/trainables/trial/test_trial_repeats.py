"""Repeated cross-validation: several splits of one trial, whose OOF predictions are averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.blend.copy_models import has_models
from ensemble.members.load import load_members
from pasture.errors import InputError
from pasture.folds import held_out_rows
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.trial import Trial

MakeTrial = Callable[..., Trial]


@pytest.fixture
def repeated(frozen_recipe: Recipe) -> Recipe:
    """Two splits into three folds each."""
    return frozen_recipe.with_overrides({"validation.repeats": 2})


def test_the_oof_is_the_mean_over_reshuffled_splits_of_whole_dates(
    make_trial: MakeTrial, repeated: Recipe, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    trial, once = make_trial(repeated, epochs=2), make_trial(frozen_recipe, epochs=2)
    first, second = trial.splits
    assert np.array_equal(first, once.folds)
    assert not np.array_equal(first, second)
    for split in trial.splits:
        assert all(len(set(split[dataset.dates == date])) == 1 for date in set(dataset.dates))
    learners = trial.executor.learners  # type: ignore[attr-defined]
    assert list(learners) == list(trial.fold_numbers) == list(range(6))
    each = np.zeros((2, len(dataset), 5))
    for number, learner in learners.items():
        held = held_out_rows(trial.splits[number // 3], number % 3)
        assert not set(learner.rows) & set(held)
        each[number // 3, held] = learner.predict(held, (0,))[:, 0]
    np.testing.assert_array_equal(each[0], once.epochs[-1])
    np.testing.assert_allclose(trial.epochs[-1], each.mean(axis=0), rtol=1e-12)
    assert trial.curve[-1]["score"] == pytest.approx(weighted_r2(dataset.targets, each.mean(axis=0)))


def test_continuing_in_the_middle_changes_no_bit(make_trial: MakeTrial, repeated: Recipe) -> None:
    whole, begun, other = make_trial(repeated, epochs=4), make_trial(repeated, epochs=2), make_trial(repeated)
    other.load_state(begun.state())
    for _ in range(2):
        other.step()
    assert np.array_equal(whole.epochs, other.epochs)
    assert np.array_equal(whole.finish().predictions, other.finish().predictions)


def test_a_blend_takes_the_models_of_all_repeats(
    make_trial: MakeTrial, repeated: Recipe, dataset: VerifiedDataset, tmp_path: Path
) -> None:
    held = dataset.hold_out([dataset.dates[0]])
    trial, run = make_trial(repeated, held, epochs=repeated.epochs), RunFolder(tmp_path / "run")
    run.write_truth(held)
    write_finished(run, trial)
    learners = trial.executor.learners.values()  # type: ignore[attr-defined]
    outer = np.mean([learner.predict(np.flatnonzero(held.outer), tuple(range(8))) for learner in learners], axis=0)
    assert len(run.weights("trial").names(".safetensors")) == 6
    table = trial.outer_table()
    assert table is not None
    np.testing.assert_allclose(table.predictions, outer)
    members = load_members([run], "d4").members
    assert has_models(members) == ([*members], [])
    run.weights("trial").delete("fold5.safetensors")
    assert "has weights of 5 of 6 folds" in has_models(members)[1][0][1]


def test_what_cannot_be_repeated_is_refused(frozen_recipe: Recipe, repeated: Recipe, dataset: VerifiedDataset) -> None:
    with pytest.raises(InputError, match=r"validation\.repeats needs a splitter with folds"):
        repeated.with_overrides({"validation.splitter": "holdout"})
    with pytest.raises(InputError, match=r"validation\.repeats=21: .*less than or equal to 20"):
        frozen_recipe.with_overrides({"validation.repeats": 21})
    taught = replace(dataset, images=dataset.images.assign(teacher_fold=np.arange(len(dataset)) % 3))
    with pytest.raises(InputError, match=r"teachers of fixed folds; set validation\.repeats=1"):
        repeated.validation.splits(taught)
