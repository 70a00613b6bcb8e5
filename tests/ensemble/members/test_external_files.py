"""Files that cannot be imported are refused in one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensemble.blend.build import build
from ensemble.members.external import import_members
from ensemble.weighting.options import MethodName
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.projection import project
from pasture.run_folder import RunFolder
from tests.ensemble.members.external_files import SHUFFLED, Theirs, come_in


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
