"""Members from other tools: what comes in, what is refused, and what the blend of them says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.blend.build import build
from ensemble.members.alignment import check_columns, check_rows, check_scale
from ensemble.members.external import import_members
from ensemble.members.load import load_members
from ensemble.members.prediction_file import read_given, read_members
from ensemble.weighting.greedy import greedy
from ensemble.weighting.library import Library
from ensemble.weighting.methods import fit_method
from ensemble.weighting.optimum import convex_optimum
from ensemble.weighting.options import MethodName, Options
from pasture.errors import InputError
from pasture.files import Folder
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.projection import project
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS, Array, from_components

IMAGES, DATES, MEMBERS = 357, 28, 34
SHUFFLED = ["Dry_Total_g", "Dry_Clover_g", "Dry_Green_g", "Dry_Dead_g", "GDM_g"]


class Theirs:
    """A train.csv without pictures, and OOF predictions of 34 models as arrays with ids and names of columns."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        self.ids = [f"ID{i}" for i in rng.permutation(IMAGES) + 1000]
        day = np.arange(IMAGES) % DATES
        expected = rng.gamma(8.0, 1 / 8, (DATES, 1))[day] * rng.gamma(4.0, 1 / 4, (IMAGES, 3)) * [25.0, 10.0, 6.0]
        self.truth = from_components(expected * rng.gamma(10.0, 1 / 10, expected.shape))
        own = rng.normal(0, 1, (MEMBERS, IMAGES, 3)) * rng.uniform(2, 7, (MEMBERS, 1, 1))
        self.members = from_components((expected + own).clip(0))
        dates = pd.to_datetime("2015-01-01") + pd.to_timedelta(7 * day, unit="D")
        rows = pd.DataFrame({"image": self.ids, "Sampling_Date": dates.strftime("%Y/%m/%d")})
        rows[list(TARGETS)] = self.truth
        table = rows.melt(["image", "Sampling_Date"], list(TARGETS), "target_name", "target")
        table["sample_id"] = table["image"] + "__" + table["target_name"]
        table["image_path"] = "train/" + table["image"] + ".jpg"
        table = table.assign(State="Tas", Species="Clover", Pre_GSHH_NDVI=0.5, Height_Ave_cm=5)
        self.csv = folder / "train.csv"
        table.to_csv(self.csv, index=False)
        self.id_file = folder / "ids.txt"
        self.id_file.write_text("\n".join(self.ids))

    def array(self, predictions: Array, name: str = "m") -> Path:
        """A file of (357, 5) predictions, its columns in the order `SHUFFLED`."""
        path = self.folder / f"{name}.npy"
        np.save(path, predictions[:, [TARGETS.index(c) for c in SHUFFLED]])
        return path

    def wide(self, predictions: Array, name: str, ids: list[str] | None = None) -> pd.DataFrame:
        table = pd.DataFrame(predictions, columns=list(TARGETS)).assign(image_id=ids or self.ids, junk="x")
        table.to_csv(self.folder / f"{name}.csv", index=False)
        table.to_parquet(self.folder / f"{name}.parquet", index=False)
        return table


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    return Theirs(tmp_path_factory.mktemp("theirs"))


def come_in(theirs: Theirs, run: RunFolder, *files: Path, **more: Path) -> None:
    import_members(files, theirs.csv, run, theirs.id_file, SHUFFLED, **more)


def test_34_members_give_the_numbers_that_plain_arithmetic_gives(theirs: Theirs, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "theirs")
    come_in(theirs, run, *(theirs.array(p, f"m{i:02}") for i, p in enumerate(theirs.members)))
    pool = load_members([run], "d4")
    assert [c.key for c in pool.members] == [f"theirs-m{i:02}" for i in range(MEMBERS)]
    assert any("the folds of 34 external member(s) are unknown" in warning for warning in pool.warnings)
    order = [theirs.ids.index(i) for i in pool.image_ids]
    np.testing.assert_allclose(pool.truth, theirs.truth[order])
    np.testing.assert_allclose(pool.predictions, theirs.members[:, order], rtol=1e-6)
    blend = build([run], tmp_path / "blend", "d4")
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


@pytest.mark.parametrize("ids", ["plain", "bytes", "numbers", "jpg", "path"])
@pytest.mark.parametrize("layout", ["npy", "npz", "named", "list"])
def test_every_layout_of_many_members_comes_in(layout: str, ids: str, theirs: Theirs, tmp_path: Path) -> None:
    """34 x 357 x 5 as one .npy beside ids and columns, or as one .npz that holds all, stacked or an array a member."""
    order = [TARGETS.index(column) for column in SHUFFLED]
    stack = theirs.members[..., order].astype(np.float32)
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
        arrays = {"npz": {"oof": stack}, "named": each, "list": {"a": stack[:30], "b": stack[30:]}}[layout]
        np.savez(file, ids=made, columns=np.array(SHUFFLED), **arrays)
        members = import_members([file], theirs.csv, run)
    assert len(members) == MEMBERS
    assert (
        members[0].metadata["trial"]
        == {"npy": "oof-00", "npz": "oof-00", "named": "oof-m00", "list": "oof-a-00"}[layout]
    )
    assert [m.metadata["missing"] for m in members] == [0] * MEMBERS
    scores = [weighted_r2(theirs.truth, member) for member in theirs.members]
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


@pytest.mark.parametrize("order", [o for o in itertools.permutations(range(5)) if o != (0, 1, 2, 3, 4)][::7])
def test_columns_in_another_order_are_refused(order: tuple[int, ...], theirs: Theirs) -> None:
    with pytest.raises(InputError, match="columns are in another order") as caught:
        check_columns("f.csv", theirs.truth, theirs.members[0][:, order])
    assert "\n" not in str(caught.value)
    wrong = {TARGETS[c]: TARGETS[t] for c, t in enumerate(order) if c != t}
    assert all(f"{named} looks like {target}" in str(caught.value) for named, target in wrong.items())


def test_columns_that_do_not_keep_the_balance_are_judged_by_score(theirs: Theirs) -> None:
    rng = np.random.default_rng(0)
    loose = theirs.members[0] + rng.normal(0, 3, theirs.truth.shape)
    check_columns("f.csv", theirs.truth, loose)
    with pytest.raises(InputError, match="Dry_Dead_g looks like Dry_Clover_g"):
        check_columns("f.csv", theirs.truth, loose[:, [0, 2, 1, 3, 4]])


@pytest.mark.parametrize(
    ("shuffle", "complaint"),
    [
        (lambda ids: sorted(ids, key=lambda i: i[::-1]), "no better than in random order"),
        (lambda ids: ids[::-1], "they fit the reverse order"),
        (lambda ids: [*ids[1:], ids[0]], "they fit one row further down"),
        (sorted, "they fit the order of train.csv"),
    ],
)
def test_rows_of_other_images_are_refused(
    shuffle: Callable[[list[str]], list[str]], complaint: str, theirs: Theirs
) -> None:
    truth = dict(zip(theirs.ids, theirs.truth, strict=True))
    orders = {"the order of train.csv": theirs.ids} if shuffle is sorted else {}
    with pytest.raises(InputError, match=complaint):
        check_rows("f.npy", truth, shuffle(theirs.ids), theirs.members[0], orders)


def test_sound_members_pass_however_weak(theirs: Theirs) -> None:
    """Of models that explain a tenth of the variance none is refused; one that knows nothing is."""
    rng = np.random.default_rng(0)
    truth = dict(zip(theirs.ids, theirs.truth, strict=True))
    for _ in range(10):
        noise = from_components(rng.normal(0, 1, (IMAGES, 3)) * theirs.truth[:, :3].std(axis=0) * 3)
        weak = theirs.truth.mean(axis=0) + 0.1 * (theirs.truth - theirs.truth.mean(axis=0) + noise)
        check_rows("f.csv", truth, theirs.ids, weak, {"sorted": sorted(theirs.ids)})
        check_columns("f.csv", theirs.truth, weak)
        check_scale("f.csv", theirs.truth, weak)
    with pytest.raises(InputError, match="predict nothing"):
        check_rows("f.csv", truth, theirs.ids, np.ones_like(theirs.truth), {})


def spoilt(theirs: Theirs, folder: Path, what: str) -> tuple[Path, Path | None, list[str] | None]:
    """A file of predictions with one thing wrong, and the ids and columns that go with it."""
    good, table = theirs.members[0].copy(), theirs.wide(theirs.members[0], "good")
    path = folder / "bad.csv"
    if what in ("a column", "nan", "twice", "unknown"):
        if what == "a column":
            table = table.drop(columns="GDM_g")
        elif what == "nan":
            table.loc[3, "GDM_g"] = np.nan
        elif what == "twice":
            table.loc[3, "image_id"] = table.loc[4, "image_id"]
        else:
            table.loc[3, "image_id"] = "ID9"
        table.to_csv(path, index=False)
        return path, None, None
    if what == "no ids":
        return theirs.array(good), None, SHUFFLED
    if what == "four columns":
        return theirs.array(good), theirs.id_file, SHUFFLED[:4]
    if what == "short":
        return theirs.array(good[:-1]), theirs.id_file, SHUFFLED
    if what == "pickle":
        np.save(folder / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        return folder / "bad.npy", theirs.id_file, SHUFFLED
    if what == "objects":
        ids = np.array(theirs.ids, dtype=object)
        np.savez(folder / "bad.npz", ids=ids, columns=np.array(SHUFFLED), oof=good)
        return folder / "bad.npz", None, None
    if what == "empty":
        np.savez(folder / "bad.npz", ids=np.array(theirs.ids), columns=np.array(SHUFFLED))
        return folder / "bad.npz", None, None
    if what == "suffix":
        return theirs.folder / "good.xlsx", None, None
    if what == "no parquet":
        (folder / "bad.parquet").write_bytes(b"PAR1")
        return folder / "bad.parquet", None, None
    return folder / "nowhere.csv", None, None


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("a column", "column.s. GDM_g missing"),
        ("nan", "is missing or not a finite number"),
        ("twice", "appears twice"),
        ("unknown", "1 of 357 images are not in the truth, such as 'ID9'"),
        ("no ids", "give --ids FILE and --columns"),
        ("four columns", "expected the five targets"),
        ("short", "356 rows, but .*ids.txt has 357 ids"),
        ("pickle", "not a readable .npy array"),
        ("objects", "not read.; save strings as ids.astype.str"),
        ("empty", "no predictions; expected an array"),
        ("suffix", "ends in .csv, .parquet, .npy or .npz"),
        ("no parquet", "not a readable parquet file"),
        ("nowhere", "No such file"),
    ],
)
def test_a_bad_file_is_one_line_and_nothing_is_written(
    what: str, complaint: str, theirs: Theirs, tmp_path: Path
) -> None:
    path, ids, columns = spoilt(theirs, tmp_path, what)
    run = RunFolder(tmp_path / "run")
    good = theirs.array(theirs.members[1], "good")
    with pytest.raises(InputError, match=complaint) as caught:
        import_members([good, path] if ids and columns == SHUFFLED else [path], theirs.csv, run, ids, columns)
    assert "\n" not in str(caught.value)
    assert not run.folder.exists()


def test_a_run_that_exists_and_files_of_one_name_are_refused(theirs: Theirs, tmp_path: Path) -> None:
    file = theirs.array(theirs.members[0])
    with pytest.raises(InputError, match="'m': each member has the name of its file"):
        come_in(theirs, RunFolder(tmp_path / "run"), file, file)
    come_in(theirs, RunFolder(tmp_path / "run"), file)
    with pytest.raises(InputError, match="exists already"):
        come_in(theirs, RunFolder(tmp_path / "run"), file)


def test_a_file_may_lack_images_and_says_so(theirs: Theirs, tmp_path: Path) -> None:
    theirs.wide(theirs.members[0][:300], "part", theirs.ids[:300])
    [member] = import_members([theirs.folder / "part.csv"], theirs.csv, RunFolder(tmp_path / "run"))
    assert (member.metadata["trial"], member.metadata["missing"]) == ("part", 57)
    assert member.metadata["score"] == pytest.approx(weighted_r2(theirs.truth[:300], theirs.members[0][:300]))


@pytest.mark.parametrize("method", ["simplex", "uniform"])
def test_it_is_said_where_not_all_members_are_looked_at(
    method: MethodName, theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.estimate.remarks.WIDEST", 4)
    monkeypatch.setattr("ensemble.weighting.methods.WIDEST", 4)
    run = RunFolder(tmp_path / "run")
    come_in(theirs, run, *(theirs.array(p, f"m{i}") for i, p in enumerate(theirs.members[:5])))
    blend = build([run], tmp_path / "blend", "d4", method)
    said = [warning for warning in blend.warnings if "the 4 best of 5 candidates" in warning]
    assert bool(said) == (method == "simplex")


def test_members_out_of_balance_keep_their_scores_and_it_is_said(theirs: Theirs, tmp_path: Path) -> None:
    loose = theirs.members[:3] + np.random.default_rng(0).normal(0, 3, (3, *theirs.truth.shape))
    run = RunFolder(tmp_path / "run")
    come_in(theirs, run, *(theirs.array(p, f"loose{i}") for i, p in enumerate(loose)))
    blend = build([run], tmp_path / "blend", "d4", "uniform")
    plain = weighted_r2(theirs.truth, loose.mean(axis=0))
    assert blend.estimate["fitted"] == blend.estimate["uniform"] == pytest.approx(plain, abs=1e-6)
    [said] = [warning for warning in blend.warnings if "break the mass balance" in warning]
    assert said.endswith(f"projected {weighted_r2(theirs.truth, project(loose.mean(axis=0))):.4f}")


@pytest.mark.parametrize(
    ("scaled", "scale"),
    [
        (np.log1p, "log(1 + grams)"),
        (lambda grams: np.log(grams + 1e-3), "log(grams)"),
        (np.sqrt, "sqrt(grams)"),
    ],
)
def test_predictions_on_another_scale_are_refused(
    scaled: Callable[[Array], Array], scale: str, theirs: Theirs, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match=f"not in grams but look like {re.escape(scale)}") as caught:
        come_in(theirs, run, theirs.array(scaled(theirs.members[0])))
    assert "\n" not in str(caught.value)
    assert not run.folder.exists()


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_truth_is_refused_as_a_member(noise: float, theirs: Theirs, tmp_path: Path) -> None:
    copy = theirs.truth + np.random.default_rng(0).normal(0, noise, theirs.truth.shape)
    with pytest.raises(InputError, match=r"R2 (1\.000|0\.999)\d+: these are the true weights, not predictions"):
        come_in(theirs, RunFolder(tmp_path / "run"), theirs.array(copy))


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
