"""Members from other tools: what comes in, what is refused, and what the blend of them says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.blend.build import build
from ensemble.members.external import import_members
from ensemble.members.load import load_members
from ensemble.members.prediction_file import read_given, read_members
from ensemble.weighting.greedy import greedy
from ensemble.weighting.library import Library
from ensemble.weighting.methods import fit_method
from ensemble.weighting.optimum import convex_optimum
from ensemble.weighting.options import Options
from pasture.errors import InputError
from pasture.files import Folder
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS
from tests.ensemble.members.external_files import DATES, IMAGES, MEMBERS, SHUFFLED, Theirs, come_in


@pytest.mark.heavy
def test_34_members_give_the_numbers_that_plain_arithmetic_gives(theirs: Theirs, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "theirs")
    come_in(theirs, run, *(theirs.array(p, f"m{i:02}") for i, p in enumerate(theirs.members)))
    pool = load_members([run], "d4")
    assert [c.key for c in pool.members] == [f"theirs-m{i:02}" for i in range(MEMBERS)]
    assert any("the folds of 34 external member(s) are unknown" in warning for warning in pool.warnings)
    order = [theirs.ids.index(i) for i in pool.image_ids]
    np.testing.assert_allclose(pool.truth, theirs.truth[order])
    np.testing.assert_allclose(pool.predictions, theirs.members[:, order], rtol=1e-6)
    blend = build([run], tmp_path / "blend", "d4", "greedy")
    scores = blend.scores()
    alone = [weighted_r2(theirs.truth, p) for p in theirs.members]
    assert scores["best_single"] == pytest.approx(max(alone), abs=1e-6)
    assert scores["uniform"] == pytest.approx(weighted_r2(theirs.truth, theirs.members.mean(axis=0)), abs=1e-6)
    residuals = ((theirs.members - theirs.truth) * np.sqrt(WEIGHTS)).reshape(MEMBERS, -1)
    blended = convex_optimum(Library.of(pool).gram) @ residuals
    assert (blended @ blended - (residuals @ blended).min()) / (blended @ blended) < 1e-5, "no member could improve it"
    assert 0 <= scores["gap"] == scores["optimum"] - scores["fitted"] < 1e-4
    assert len(greedy(Library.of(pool).gram, pool.backbones).path) <= 200
    assert scores["tta"] == {"1": pytest.approx(scores["fitted"])}
    assert {m.recipe for m in blend.members} == {None}
    assert not (tmp_path / "blend" / "members").exists()


def test_every_format_gives_the_same(theirs: Theirs, tmp_path: Path) -> None:
    predictions = theirs.members[0]
    order = np.random.default_rng(1).permutation(IMAGES)
    theirs.wide(predictions[order], "wide", [theirs.ids[i] for i in order])
    long = theirs.wide(predictions, "long").melt("image_id", list(TARGETS), "t", "target")
    long = long.sample(frac=1, random_state=0)
    long["sample_id"] = long["image_id"] + "__" + long["t"]
    long[["sample_id", "target"]].to_csv(tmp_path / "long.csv", index=False)
    np.save(tmp_path / "ids.npy", np.array(theirs.ids))
    read = [
        read_members(theirs.folder / "wide.csv"),
        read_members(theirs.folder / "wide.parquet"),
        read_members(tmp_path / "long.csv"),
        read_members(theirs.array(predictions), theirs.id_file, SHUFFLED),
        read_members(theirs.array(predictions), tmp_path / "ids.npy", SHUFFLED),
    ]
    for [table] in (members.values() for members in read):
        np.testing.assert_allclose(table.loc[theirs.ids].to_numpy(), predictions)


@pytest.mark.heavy
@pytest.mark.parametrize("ids", ["plain", "bytes", "numbers", "jpg", "path"])
@pytest.mark.parametrize("layout", ["npy", "npz", "named", "list"])
def test_every_layout_of_many_members_comes_in(layout: str, ids: str, theirs: Theirs, tmp_path: Path) -> None:
    """Members x 357 x 5 as one .npy beside ids and columns, or as one .npz that holds all, stacked or one by one.

    All 34 members with plain ids; three with others, since ids are read once for all members.
    """
    order = [TARGETS.index(column) for column in SHUFFLED]
    given = theirs.members if ids == "plain" else theirs.members[:3]
    stack = given[..., order].astype(np.float32)
    made = {
        "plain": np.array(theirs.ids),
        "bytes": np.array(theirs.ids, dtype="S"),
        "numbers": np.array([int(i.removeprefix("ID")) for i in theirs.ids]),
        "jpg": np.array([f"{i}.jpg" for i in theirs.ids]),
        "path": np.array([f"train/{i}.jpg" for i in theirs.ids]),
    }[ids]
    run, file = RunFolder(tmp_path / "run"), tmp_path / f"oof.{'npy' if layout == 'npy' else 'npz'}"
    if layout == "npy":
        np.save(file, stack)
        np.save(tmp_path / "ids.npy", made)
        members = import_members([file], theirs.csv, run, tmp_path / "ids.npy", SHUFFLED)
    else:
        each = {f"m{i:02}": member for i, member in enumerate(stack)}
        arrays = {"npz": {"oof": stack}, "named": each, "list": {"a": stack[:-1], "b": stack[-1:]}}[layout]
        np.savez(file, ids=made, columns=np.array(SHUFFLED), **arrays)
        members = import_members([file], theirs.csv, run)
    assert len(members) == len(given)
    assert (
        members[0].metadata["trial"]
        == {"npy": "oof-00", "npz": "oof-00", "named": "oof-m00", "list": "oof-a-00"}[layout]
    )
    assert [m.metadata["missing"] for m in members] == [0] * len(given)
    scores = [weighted_r2(theirs.truth, member) for member in given]
    assert [m.metadata["score"] for m in members] == pytest.approx(scores, abs=1e-5)


def test_two_rows_of_one_image_under_two_names_are_refused(theirs: Theirs, tmp_path: Path) -> None:
    theirs.wide(theirs.members[0], "twice", [theirs.ids[1] + ".jpg", *theirs.ids[1:]])
    with pytest.raises(InputError, match=f"image {theirs.ids[1]} appears twice"):
        import_members([theirs.folder / "twice.csv"], theirs.csv, RunFolder(tmp_path / "run"))


def test_what_is_given_at_prediction_is_of_one_member(theirs: Theirs, tmp_path: Path) -> None:
    file = tmp_path / "test.npz"
    np.savez(file, ids=np.array(["test/ID7.jpg"]), columns=np.array(TARGETS), p=np.arange(5.0)[None])
    np.testing.assert_allclose(read_given({"m": file}, ["ID7"])["m"], [[0, 1, 2, 3, 4]])
    np.savez(file, ids=np.array(["ID7"]), columns=np.array(TARGETS), p=np.ones((2, 1, 5)))
    with pytest.raises(InputError, match="predictions of 2 members"):
        read_given({"m": file}, ["ID7"])


@pytest.mark.heavy
def test_known_folds_are_kept_and_judged(theirs: Theirs, tmp_path: Path) -> None:
    files = [theirs.array(theirs.members[i], f"m{i}") for i in range(2)]
    for name, folds in (("dates", np.arange(IMAGES) % DATES % 5), ("images", np.arange(IMAGES) % 5)):
        pd.DataFrame({"image_id": theirs.ids, "fold": folds}).to_csv(tmp_path / f"{name}.csv", index=False)
    dates, images, unknown = (RunFolder(tmp_path / name) for name in ("d", "i", "u"))
    come_in(theirs, dates, *files, folds=tmp_path / "dates.csv")
    come_in(theirs, images, *files, folds=tmp_path / "images.csv")
    come_in(theirs, unknown, *(theirs.array(theirs.members[i], f"m{i}") for i in (2, 3)))
    assert ["no OOF of every epoch" in warning for warning in load_members([dates], "d4").warnings] == [True]
    assert "every score is too high" in load_members([images], "d4").warnings[0]
    pool = load_members([dates, images, unknown], "d4")
    assert [key for key, _ in pool.refused] == ["i-m0", "i-m1"], "their folds split dates, those of others do not"
    pool = load_members([images, unknown], "d4")
    assert len(pool.members) == 4, "no member is known to keep dates together"


def test_imports_are_blended_with_trials_on_the_same_truth(
    theirs: Theirs, tmp_path: Path, write_trial: Callable[..., object]
) -> None:
    """The pictures of an import are unknown, so that its fingerprint cannot be the trials'."""
    ours, run = RunFolder(tmp_path / "ours"), RunFolder(tmp_path / "run")
    come_in(theirs, run, theirs.array(theirs.members[0]))
    come_in(theirs, ours, theirs.array(theirs.members[1]))
    write_trial(ours, "t0", ids=theirs.ids, folds=[0] * IMAGES, epochs=0)
    pool = load_members([run, ours], "d4")
    assert [c.key for c in pool.members] == ["ours-m", "ours-t0", "run-m"]
    assert pool.fingerprint == "f" * 64
    assert [c.external for c in pool.members] == [True, False, True]
    assert fit_method("greedy", Library.of(pool), Options()).shape == (3, 5)


@pytest.mark.heavy
def test_the_folds_of_a_blends_oof_are_those_of_all_its_members(theirs: Theirs, tmp_path: Path) -> None:
    """Where the members were held out in different folds, or the folds are not known, there is no fold to name."""
    runs = {}
    for count in (4, 5):
        folds = np.arange(IMAGES) % DATES % count
        pd.DataFrame({"image_id": theirs.ids, "fold": folds}).to_csv(tmp_path / f"{count}.csv", index=False)
        for i in range(2):
            run = runs[count, i] = RunFolder(tmp_path / f"r{count}{i}")
            come_in(theirs, run, theirs.array(theirs.members[i], f"m{i}"), folds=tmp_path / f"{count}.csv")
    runs[0, 0] = RunFolder(tmp_path / "r00")
    come_in(theirs, runs[0, 0], theirs.array(theirs.members[2], "m2"))
    day = {image: i % DATES for i, image in enumerate(theirs.ids)}
    for keys, expected in (
        ([(4, 0), (4, 1)], lambda d: d % 4),
        ([(4, 0), (5, 1)], lambda d: d % 4 if d % 4 == d % 5 else -1),
        ([(4, 0), (0, 0)], lambda d: -1),
    ):
        out = tmp_path / f"blend{keys}"
        build([runs[key] for key in keys], out, "none", "uniform")
        table = OofTable.read(Folder.at(out), "oof.parquet")
        assert table.folds.tolist() == [expected(day[i]) for i in table.image_ids]
        assert table.metadata["folds_known"] == (keys == [(4, 0), (4, 1)])


def test_a_submission_may_have_the_other_columns_of_train_csv(theirs: Theirs) -> None:
    [table] = read_members(theirs.csv).values()
    pd.testing.assert_frame_equal(
        table.loc[theirs.ids, list(TARGETS)].reset_index(drop=True),
        pd.DataFrame(theirs.truth, columns=list(TARGETS)),
        check_names=False,
    )
