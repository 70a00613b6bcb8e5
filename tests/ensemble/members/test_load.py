from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.members.load import load_members
from ensemble.weighting.library import Library
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from trainables.images.d4 import tta_elements

MakeRun = Callable[..., RunFolder]
Write = Callable[..., OofTable]


def test_rows_are_joined_by_image_id(make_run: MakeRun, write_trial: Write, truth: pd.DataFrame) -> None:
    run = make_run("a")
    ids = list(truth.index)
    tables = {"t0": write_trial(run, "t0", ids), "t1": write_trial(run, "t1", ids[::-1], seed=2)}
    pool = load_members([run], "d4")
    assert pool.image_ids == sorted(ids)
    assert pool.dates.tolist() == [str(truth["date"][i].date()) for i in pool.image_ids]
    np.testing.assert_array_equal(pool.truth, truth.loc[pool.image_ids, list(TARGETS)])
    assert [c.key for c in pool.members] == ["a-t0", "a-t1"]
    for candidate in pool.members:
        table = tables[candidate.trial]
        rows = [table.image_ids.index(i) for i in pool.image_ids]
        np.testing.assert_allclose(candidate.predictions, table.mean(tuple(range(8)))[rows], rtol=1e-6)
        stored = run.read_epochs(candidate.trial)
        assert stored is not None
        assert candidate.epochs is not None
        np.testing.assert_allclose(candidate.epochs, stored[:, rows], rtol=1e-6)
        np.testing.assert_array_equal(candidate.folds, table.folds[rows])
        assert candidate.score == weighted_r2(pool.truth, candidate.predictions)
        assert (candidate.run, candidate.epoch, candidate.backbone) == (run, 1, "lite0")
    assert (pool.fingerprint, pool.refused, pool.warnings) == ("f" * 64, [], [])
    assert pool.predictions.shape == (2, 12, 5)


@pytest.mark.parametrize("tta", ["none", "flips", "d4"])
def test_predictions_are_the_mean_over_the_tta(tta: Any, make_run: MakeRun, write_trial: Write) -> None:
    run = make_run("a")
    eight, one = write_trial(run, "eight"), write_trial(run, "one", elements=1, epochs=0)
    pool = load_members([run], tta)
    for table, elements, candidate in zip((eight, one), (tta_elements(tta), (0,)), pool.members, strict=True):
        rows = [table.image_ids.index(i) for i in pool.image_ids]
        np.testing.assert_allclose(candidate.predictions, table.mean(elements)[rows], rtol=1e-6)
    assert pool.members[1].epochs is None


def test_several_runs_make_one_pool(make_run: MakeRun, write_trial: Write, truth: pd.DataFrame) -> None:
    a, b = make_run("a"), make_run("b", truth=truth.iloc[::-1])
    write_trial(b, "t0")
    write_trial(a, "t0")
    write_trial(a, "t1", recipe={})
    pool = load_members([b, a], "none")
    assert [c.key for c in pool.members] == ["a-t0", "a-t1", "b-t0"]
    assert pool.backbones == ["lite0", "a-t1", "lite0"]


def test_runs_whose_trials_would_share_a_key_are_refused(make_run: MakeRun, write_trial: Write) -> None:
    runs = [make_run("x/a"), make_run("y/a")]
    for run in runs:
        write_trial(run, "t0")
    with pytest.raises(InputError, match=r"x/a and .*y/a both have a a-t0"):
        load_members(runs, "d4")


@pytest.mark.parametrize("change", ["value", "date", "images"])
def test_runs_with_another_truth_are_refused(
    change: str, make_run: MakeRun, write_trial: Write, truth: pd.DataFrame
) -> None:
    other = truth.copy()
    if change == "value":
        other.iloc[3, 2] += 1e-6
    elif change == "date":
        other.iloc[3, 0] += pd.Timedelta(days=1)
    else:
        other = other.iloc[1:]
    a, b = make_run("a"), make_run("b", truth=other)
    write_trial(a, "t0")
    write_trial(b, "t0")
    with pytest.raises(InputError, match=r"/a and .*/b have different images, dates or targets"):
        load_members([a, b], "d4")


def _damaged(run: RunFolder, write: Write, ids: list[str]) -> None:
    run.oof.write("bad.parquet", b"PAR1 and no more")


def _lacks_an_image(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad", ids[1:])


def _never_held_out(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad", folds=[-1, *[0] * (len(ids) - 1)])


def _unknown_image(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad", [*ids, "ID99"])


def _other_fingerprint(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad", fingerprint="0" * 64)


def _splits_dates(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad", folds=[i % 2 for i in range(len(ids))])


def _other_epochs(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad")
    run.write_epochs("bad", np.ones((3, 4, 5)))


def _damaged_epochs(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad")
    run.epochs.write("bad.npz", b"no archive")


def _too_few_epochs(run: RunFolder, write: Write, ids: list[str]) -> None:
    write(run, "bad", epochs=3, epoch=3)


def _no_metadata(run: RunFolder, write: Write, ids: list[str]) -> None:
    table = write(run, "bad")
    OofTable(table.image_ids, table.folds, table.predictions, {"epoch": 1}).write(run.oof, "bad.parquet")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_damaged, "not a readable Parquet file"),
        (_lacks_an_image, "lacks 1 of 12 images, such as ID"),
        (_never_held_out, "lacks 1 of 12 images, such as ID"),
        (_unknown_image, "1 image(s) without truth, such as ID99"),
        (_other_fingerprint, "trained on other data (fingerprint 000000000000,"),
        (_splits_dates, "images of one date on both sides"),
        (_other_epochs, "epochs (3, 4, 5) do not hold epoch 1 of (12, 5)"),
        (_damaged_epochs, "damaged"),
        (_too_few_epochs, "do not hold epoch 3"),
        (_no_metadata, "metadata of its OOF lack recipe, recipe_hash, fingerprint"),
    ],
)
def test_what_cannot_be_blended_is_refused_with_the_reason(
    spoil: Callable[..., None], reason: str, make_run: MakeRun, write_trial: Write, truth: pd.DataFrame
) -> None:
    run = make_run("a")
    write_trial(run, "good")
    write_trial(run, "sound")
    spoil(run, write_trial, list(truth.index))
    pool = load_members([run], "d4")
    assert [c.key for c in pool.members] == ["a-good", "a-sound"]
    [(key, why)] = pool.refused
    assert key == "a-bad"
    assert reason in why
    assert pool.warnings == []


def test_the_images_of_the_majority_are_the_reference(
    make_run: MakeRun, write_trial: Write, truth: pd.DataFrame
) -> None:
    run = make_run("a")
    ids = list(truth.index)
    write_trial(run, "all", ids)
    # The dates that these lack were their training set: a hold-out by date.
    for trial in ("t0", "t1"):
        write_trial(run, trial, ids[:6], folds=[0] * 6)
    pool = load_members([run], "d4")
    assert pool.image_ids == sorted(ids[:6])
    assert pool.refused == [("a-all", f"its OOF has 6 image(s) that other members lack, such as {min(ids[6:])}")]


@pytest.mark.parametrize(("held_out", "folds"), [(12, [0, 1]), (6, [0, -1])])
def test_dates_on_both_sides_in_all_members_are_accepted_with_a_warning(
    held_out: int, folds: list[int], make_run: MakeRun, write_trial: Write
) -> None:
    run = make_run("a")
    for trial in ("t0", "t1"):
        write_trial(run, trial, folds=folds * 6)
    pool = load_members([run], "d4")
    assert len(pool.members) == 2
    assert len(pool.image_ids) == held_out
    assert "every score is too high" in pool.warnings[0]


def test_the_best_of_equal_recipes_is_kept(make_run: MakeRun, write_trial: Write) -> None:
    a, b = make_run("a"), make_run("b")
    write_trial(a, "t0", recipe_hash="same", seed=1)
    write_trial(b, "t0", recipe_hash="same", seed=2)
    write_trial(b, "t1", recipe_hash="same", seed=2)
    both = {c.key: c for run in (a, b) for c in load_members([run], "d4").members}
    best = max(both.values(), key=lambda c: c.score).key
    pool = load_members([a, b], "d4")
    assert [c.key for c in pool.members] == [best]
    assert {key for key, _ in pool.refused} == {"a-t0", "b-t0", "b-t1"} - {best}
    assert all("same recipe" in reason for _, reason in pool.refused)


def test_without_a_finished_trial_there_is_one_clear_line(make_run: MakeRun) -> None:
    with pytest.raises(InputError, match=r"no finished trial in .*/a; "):
        load_members([make_run("a")], "d4")


def test_if_all_are_refused_the_first_reason_is_given(make_run: MakeRun) -> None:
    run = make_run("a")
    run.oof.write("t0.parquet", b"")
    with pytest.raises(InputError, match=r"no trial in .*/a can be blended; the first of 1, a-t0: .*not a readable"):
        load_members([run], "d4")


def test_members_trained_on_pseudo_labels_are_warned_of(make_run: MakeRun, write_trial: Write) -> None:
    run = make_run("a")
    write_trial(run, "t0", pseudo_images=3)
    write_trial(run, "t1")
    assert any("pseudo-labels" in warning for warning in load_members([run], "d4").warnings)


@pytest.mark.parametrize(("choose", "chosen"), [("best", True), ("last", False), ("average", False)])
def test_only_epochs_that_were_chosen_by_score_are_chosen_again(
    choose: str, chosen: bool, make_run: MakeRun, write_trial: Write
) -> None:
    run = make_run("a")
    write_trial(run, "t0", recipe={"backbone": {"name": "lite0"}, "schedule": {"choose": choose}})
    write_trial(run, "t1", recipe={"schedule": {"choose": choose}}, epochs=0)
    pool = load_members([run], "d4")
    assert (pool.members[0].epochs is not None) == chosen
    said = [warning for warning in pool.warnings if "1 candidate(s) have no OOF of every epoch" in warning]
    assert bool(said) == chosen
    rest, _ = Library.of(pool).split(np.array([0]))
    changed = not np.array_equal(rest.predictions[0], Library.of(pool).on(rest.days).predictions[0])
    assert changed == chosen


def test_origin_and_recipe_without_seeds_are_read(make_run: MakeRun, write_trial: Write) -> None:
    run = make_run("a")
    recipe = {"backbone": {"name": "lite0"}, "validation": {"folds": 5}}
    write_trial(run, "t0", origin="start", recipe=recipe | {"seed": 1})
    write_trial(run, "t1", recipe=recipe | {"seed": 2, "validation": {"folds": 5, "seed": 7}})
    write_trial(run, "t2", recipe=recipe | {"seed": 1, "validation": {"folds": 4}})
    library = Library.of(load_members([run], "d4"))
    assert library.start.tolist() == [True, False, False]
    assert library.recipe_number.tolist() == [0, 0, 1]
