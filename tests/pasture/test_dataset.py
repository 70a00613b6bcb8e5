"""Contract 1: a sound folder is read whatever its row order; everything else is refused by file, line and reason."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pasture.dataset import Dataset, read_test, read_train
from pasture.errors import DataError, InputError
from pasture.metric import baseline_r2
from pasture.targets import TARGETS
from pasture.verification import verify

SAMPLE = Path(__file__).parents[3] / "shared/data/csiro-sample"

Change = Callable[[pd.DataFrame], pd.DataFrame | None]


def edit(root: Path, change: Change, name: str = "train.csv") -> None:
    """Rewrite a CSV file after `change`, which returns a new table or alters the one it is given."""
    table = pd.read_csv(root / name, dtype=str, keep_default_na=False)
    changed = change(table)
    (table if changed is None else changed).to_csv(root / name, index=False)


def put(row: int, column: str, value: str) -> Change:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return change


def put_for_image(image: int, column: str, value: str) -> Change:
    def change(table: pd.DataFrame) -> None:
        table.loc[5 * image : 5 * image + 4, column] = value

    return change


def test_a_sound_folder_gives_one_row_an_image(data: Path) -> None:
    dataset = read_train(data)
    assert dataset.ids == ["ID0001", "ID0002", "ID0003", "ID0004"]
    np.testing.assert_allclose(dataset.targets[3], [1, 0, 0.5, 1.5, 1.5])  # ID0004: the first in the file
    np.testing.assert_allclose(dataset.targets[0], [4, 6, 0.5, 4.5, 10.5])
    assert dataset.dates.tolist() == ["2015-09-02", "2015-09-01", "2015-09-02", "2015-09-01"]
    assert dataset.paths[0] == data / "train/ID0001.jpg"
    row = dataset.images.loc["ID0002"]
    assert (row["state"], row["species"], row["ndvi"], row["height_cm"]) == ("Tas", "Clover", 0.62, 4.6667)


def test_shuffled_rows_give_the_same_table(data: Path) -> None:
    before = read_train(data)
    fingerprint = verify(before).fingerprint
    for seed in range(3):
        edit(data, lambda t, seed=seed: t.sample(frac=1, random_state=seed))  # type: ignore[misc]
        after = read_train(data)
        pd.testing.assert_frame_equal(after.images, before.images)
        assert verify(after).fingerprint == fingerprint


def test_columns_may_come_in_any_order_and_number(data: Path) -> None:
    before = read_train(data)
    edit(data, lambda t: t[t.columns[::-1]].assign(note="x"))
    pd.testing.assert_frame_equal(read_train(data).images, before.images)


def test_measurements_may_be_missing(data: Path) -> None:
    edit(data, put_for_image(0, "Pre_GSHH_NDVI", ""))
    assert np.isnan(read_train(data).images.loc["ID0004", "ndvi"])


def test_pictures_are_not_opened_before_they_are_verified(data: Path) -> None:
    (data / "train/ID0001.jpg").unlink()
    assert len(read_train(data)) == 4


def test_baseline_is_that_of_the_targets(data: Path) -> None:
    y = read_train(data).targets
    weights = np.array([0.1, 0.1, 0.1, 0.2, 0.5])
    mean = (weights * y).sum() / len(y)
    expected = 1 - (weights * (y - y.mean(axis=0)) ** 2).sum() / (weights * (y - mean) ** 2).sum()
    assert read_train(data).baseline() == pytest.approx(expected)


def add_pseudo(image: int, weight: str = "0.5") -> Change:
    """Make an image of the file one that `forage pseudo` has added."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        rows = slice(5 * image, 5 * image + 4)
        metadata = ["Sampling_Date", "State", "Species", "Pre_GSHH_NDVI", "Height_Ave_cm"]
        table = table.assign(Pseudo_Weight=table.get("Pseudo_Weight", ""))
        table.loc[rows, metadata] = ""
        table.loc[rows, "Pseudo_Weight"] = weight
        return table

    return change


def test_pseudo_labelled_images_carry_a_weight_and_no_metadata(data: Path) -> None:
    edit(data, add_pseudo(0, "0.25"))
    dataset = read_train(data)
    assert dataset.measured.tolist() == [True, True, True, False]
    assert dataset.pseudo_weights.tolist() == [1, 1, 1, 0.25]
    assert dataset.dates.tolist() == ["2015-09-02", "2015-09-01", "2015-09-02", ""]
    np.testing.assert_allclose(dataset.targets[3], [1, 0, 0.5, 1.5, 1.5])
    assert dataset.baseline() == baseline_r2(dataset.targets[:3])


def test_without_the_column_every_image_is_measured(data: Path) -> None:
    before = read_train(data)
    assert before.measured.all()
    assert before.pseudo_weights.tolist() == [1, 1, 1, 1]
    edit(data, lambda t: t.assign(Pseudo_Weight=""))
    after = read_train(data)
    assert after.measured.all()
    assert verify(after).fingerprint == verify(before).fingerprint


def test_the_fingerprint_covers_pseudo_weights(data: Path) -> None:
    prints = [verify(read_train(data)).fingerprint]
    for weight in ("0.5", "0.25", "1"):
        edit(data, add_pseudo(0, weight))
        prints.append(verify(read_train(data)).fingerprint)
    edit(data, lambda t: add_pseudo(1, "1")(t.assign(Pseudo_Weight="", Sampling_Date="2015/9/1")))
    prints.append(verify(read_train(data)).fingerprint)
    assert len(set(prints)) == 5


def pseudo_with(change: Change) -> Change:
    """A change of a table whose first image is pseudo-labelled."""

    def both(table: pd.DataFrame) -> pd.DataFrame:
        table = add_pseudo(0)(table)  # type: ignore[assignment]
        changed = change(table)
        return table if changed is None else changed

    return both


# The line is as an editor counts: the header is line 1, the first image (ID0004) has the lines 2 to 6.
REFUSALS: dict[str, tuple[Change, int | None, str]] = {
    "columns missing": (lambda t: t.drop(columns=["target", "State"]), None, "column(s) State, target missing"),
    "no rows": (lambda t: t[:0], None, "no rows"),
    "row twice": (lambda t: pd.concat([t, t[2:3]]), 22, "'ID0004__Dry_Clover_g' appears twice"),
    "row twice, another target": (
        lambda t: pd.concat([t, t[2:3].assign(target="9")]),
        22,
        "'ID0004__Dry_Clover_g' appears twice",
    ),
    "target missing": (lambda t: t.drop(index=7), None, "image ID0003 has no row for Dry_Clover_g"),
    "unknown target": (
        lambda t: put(3, "target_name", "Hay_g")(t) or put(3, "sample_id", "ID0004__Hay_g")(t),
        5,
        "unknown target 'Hay_g'; expected one of Dry_Green_g",
    ),
    "name differs from id": (put(3, "target_name", "Dry_Dead_g"), 5, "'ID0004__GDM_g' does not end in its target_name"),
    "id without name": (put(1, "sample_id", "ID0004"), 3, "sample_id 'ID0004' is not <image id>__<target name>"),
    "id without image": (put(0, "sample_id", "__Dry_Green_g"), 2, "'__Dry_Green_g' is not <image id>__<target name>"),
    "negative": (put(6, "target", "-0.5"), 8, "target '-0.5' is negative"),
    "NaN": (put(6, "target", "NaN"), 8, "target 'NaN' is not a finite number of grams"),
    "infinite": (put(6, "target", "inf"), 8, "target 'inf' is not a finite number of grams"),
    "no target": (put(6, "target", ""), 8, "target '' is not a finite number of grams"),
    "text for a target": (put(6, "target", "abc"), 8, "target 'abc' is not a finite number of grams"),
    "a target of tonnes": (put(6, "target", "1e9"), 8, "target '1e9' is above 10000 g"),
    "height infinite": (put(6, "Height_Ave_cm", "inf"), 8, "Height_Ave_cm 'inf' is not a finite number"),
    "height NaN": (put(6, "Height_Ave_cm", "nan"), 8, "Height_Ave_cm 'nan' is not a finite number"),
    "negative height": (put(6, "Height_Ave_cm", "-1"), 8, "Height_Ave_cm '-1' is not at least 0 cm"),
    "NDVI in percent": (put(6, "Pre_GSHH_NDVI", "62"), 8, "Pre_GSHH_NDVI '62' is not in [-1, 1]"),
    "the same targets everywhere": (
        lambda t: t.assign(target=t["target_name"].map(lambda name: "10" if name == "Dry_Total_g" else "5")),
        None,
        "all 4 measured image(s) have the same five targets, so that R2 is not defined",
    ),
    "text for a date": (put(4, "Sampling_Date", "soon"), 6, "Sampling_Date 'soon' is not a date"),
    "no date": (put(4, "Sampling_Date", ""), 6, "Sampling_Date '' is not a date"),
    "month 13": (put(4, "Sampling_Date", "2015/13/40"), 6, "Sampling_Date '2015/13/40' is not a date"),
    "time without a day": (put(4, "Sampling_Date", "10:00"), 6, "Sampling_Date '10:00' is not a date"),
    "a word that pandas takes for a date": (put(4, "Sampling_Date", "today"), 6, "Sampling_Date 'today' is not a date"),
    "text for a measurement": (put(4, "Height_Ave_cm", "tall"), 6, "Height_Ave_cm 'tall' is not a finite number"),
    "absolute path": (put(5, "image_path", "/etc/passwd"), 7, "image_path '/etc/passwd' leaves the data folder"),
    "path upward": (put(5, "image_path", "train/../../a.jpg"), 7, "leaves the data folder"),
    "path upward, other slashes": (put(5, "image_path", "..\\a.jpg"), 7, "leaves the data folder"),
    "path with a drive": (put(5, "image_path", "C:\\a.jpg"), 7, "leaves the data folder"),
    "no path": (put(5, "image_path", ""), 7, "image_path '' leaves the data folder"),
    "path of the folder itself": (put(5, "image_path", "."), 7, "image_path '.' leaves the data folder"),
    "two paths": (put(8, "image_path", "train/ID0001.jpg"), 10, "image_path differs"),
    "two dates": (put(8, "Sampling_Date", "2015/9/9"), 10, "Sampling_Date differs"),
    "two states": (put(8, "State", "WA"), 10, "State differs from that of the other rows of image ID0003"),
    "a measurement in one row only": (
        lambda t: put_for_image(2, "Pre_GSHH_NDVI", "")(t) or put(13, "Pre_GSHH_NDVI", "0.5")(t),
        15,
        "Pre_GSHH_NDVI differs",
    ),
    "pseudo weight 0": (add_pseudo(1, "0"), 7, "Pseudo_Weight '0' is not in (0, 1]"),
    "pseudo weight below 0": (add_pseudo(1, "-0.5"), 7, "Pseudo_Weight '-0.5' is not in (0, 1]"),
    "pseudo weight above 1": (add_pseudo(1, "1.5"), 7, "Pseudo_Weight '1.5' is not in (0, 1]"),
    "pseudo weight infinite": (add_pseudo(1, "inf"), 7, "Pseudo_Weight 'inf' is not a finite number"),
    "pseudo weight NaN": (add_pseudo(1, "nan"), 7, "Pseudo_Weight 'nan' is not a finite number"),
    "text for a pseudo weight": (add_pseudo(1, "half"), 7, "Pseudo_Weight 'half' is not a finite number"),
    "two pseudo weights": (pseudo_with(put(3, "Pseudo_Weight", "0.4")), 5, "Pseudo_Weight differs"),
    "pseudo weight in some rows": (
        lambda t: t.assign(Pseudo_Weight=[""] * 8 + ["0.4"] + [""] * 11),
        10,
        "Pseudo_Weight differs",
    ),
    "no date of a measured row": (pseudo_with(put(9, "Sampling_Date", "")), 11, "Sampling_Date '' is not a date"),
    "text for a date of a pseudo row": (pseudo_with(put(4, "Sampling_Date", "soon")), 6, "'soon' is not a date"),
    "pseudo rows only": (lambda t: t.assign(Pseudo_Weight="0.5"), None, "every image is pseudo-labelled"),
}


@pytest.mark.parametrize(("change", "line", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_broken_table_is_refused_by_file_line_and_reason(
    data: Path, change: Change, line: int | None, reason: str
) -> None:
    edit(data, change)
    with pytest.raises(InputError) as caught:
        read_train(data)
    place = f"{data}/train.csv: " if line is None else f"{data}/train.csv, line {line}: "
    assert str(caught.value).startswith(place)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_wrong_rows_are_findings_of_one_error(data: Path) -> None:
    def damage(table: pd.DataFrame) -> pd.DataFrame:
        put(0, "target", "abc")(table)
        put(6, "target", "-1")(table)
        put_for_image(2, "Sampling_Date", "soon")(table)
        return table.drop(index=[3, 18])

    edit(data, damage)
    with pytest.raises(DataError) as caught:
        read_train(data)
    place = f"{data}/train.csv"
    assert caught.value.findings == (
        f"{place}, line 2: target 'abc' is not a finite number of grams",
        f"{place}, line 7: target '-1' is negative; a dry weight is at least 0 g",
        f"{place}, line 11: Sampling_Date 'soon' is not a date such as 2015/9/4 (and 4 more rows)",
        f"{place}: image ID0001 has no row for GDM_g; every image needs all five targets",
        f"{place}: image ID0004 has no row for GDM_g; every image needs all five targets",
    )
    assert str(caught.value) == caught.value.findings[0] + " (and 4 more: run `forage check` on the folder)"
    assert pickle.loads(pickle.dumps(caught.value)).findings == caught.value.findings


def test_blank_lines_are_skipped_and_counted(data: Path) -> None:
    lines = (data / "train.csv").read_text().splitlines()
    (data / "train.csv").write_text("\n".join([*lines[:3], "", "", *lines[3:], "", ""]))
    assert len(read_train(data)) == 4
    (data / "train.csv").write_text("\n".join([*lines[:3], "", "", *lines[3:10], "what,ever", *lines[10:]]))
    with pytest.raises(InputError, match=r"train\.csv, line 13: sample_id 'what'"):
        read_train(data)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\xff\xfe\x00\x01", b"a,b\n1,2,3\n1,2,3,4\n", b'a,b\n"1,2\n'],
    ids=["empty", "one blank line", "binary", "ragged", "open quote"],
)
def test_what_is_no_table_is_refused(data: Path, content: bytes) -> None:
    (data / "train.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"train\.csv: (not a CSV file|column\(s\) sample_id)"):
        read_train(data)


def test_a_field_too_many_in_every_row_is_refused(data: Path) -> None:
    header, *rows = (data / "train.csv").read_text().splitlines()
    (data / "train.csv").write_text("\n".join([header, *(f"{row},1" for row in rows)]))
    with pytest.raises(InputError, match=r"train\.csv, line 2: "):
        read_train(data)


@pytest.mark.parametrize("read", [read_train, read_test])
def test_a_missing_folder_or_file_is_named(data: Path, read: Callable[[Path], Dataset]) -> None:
    name = "train.csv" if read is read_train else "test.csv"
    with pytest.raises(InputError, match=re.escape(f"{data}/none: no such data folder")):
        read(data / "none")
    (data / name).unlink()
    with pytest.raises(InputError, match=re.escape(f"{data}/{name}: no such file")):
        read(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:400])


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such picture"),
    "truncated": (truncate, "not a readable picture"),
    "header only": (lambda p: p.write_bytes(p.read_bytes()[:30]), "not a readable picture"),
    "empty": (lambda p: p.write_bytes(b""), "not a readable picture (unknown format)"),
    "a text file": (lambda p: p.write_text("grass"), "not a readable picture"),
    "a folder": (make_directory, "Is a directory"),
}


@pytest.mark.parametrize(("damage", "reason"), PICTURES.values(), ids=PICTURES.keys())
def test_a_broken_picture_is_refused_by_name(data: Path, damage: Callable[[Path], object], reason: str) -> None:
    damage(data / "train/ID0002.jpg")
    with pytest.raises(InputError, match=re.escape(f"{data}/train/ID0002.jpg: {reason}")):
        verify(read_train(data))


def test_a_picture_cut_anywhere_is_refused(data: Path) -> None:
    path = data / "test/T1.jpg"
    content = path.read_bytes()
    for length in range(0, len(content) - 2, 13):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"T1\.jpg: not a readable picture"):
            verify(read_test(data))


def flip_last_pixels(data: Path) -> None:
    path = data / "train/ID0003.jpg"
    content = bytearray(path.read_bytes())
    content[-20] ^= 0x01
    path.write_bytes(content)


def rename_image(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(sample_id=table["sample_id"].str.replace("ID0003", "ID0003b"))


CHANGES: dict[str, Callable[[Path], None]] = {
    "a byte of a picture": flip_last_pixels,
    "a target": lambda data: edit(data, put(0, "target", "1.0001")),
    "an id": lambda data: edit(data, rename_image),
    "a date": lambda data: edit(data, put_for_image(0, "Sampling_Date", "2015/9/3")),
    "a state": lambda data: edit(data, put_for_image(0, "State", "WA")),
    "a species": lambda data: edit(data, put_for_image(0, "Species", "Lucerne")),
    "an NDVI": lambda data: edit(data, put_for_image(0, "Pre_GSHH_NDVI", "0.63")),
    "a missing NDVI": lambda data: edit(data, put_for_image(0, "Pre_GSHH_NDVI", "")),
    "a height": lambda data: edit(data, put_for_image(0, "Height_Ave_cm", "4.6668")),
    "an image less": lambda data: edit(data, lambda t: t[5:]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_fingerprint_changes_with(data: Path, change: Callable[[Path], None]) -> None:
    before = verify(read_train(data)).fingerprint
    change(data)
    assert verify(read_train(data)).fingerprint != before


def test_the_fingerprint_is_that_of_the_content_not_of_the_place(
    tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    prints = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        prints.append(verify(read_train(make_folder(tmp_path / name))).fingerprint)
    assert prints[0] == prints[1]
    assert re.fullmatch("[0-9a-f]{64}", prints[0])


def test_the_fingerprint_ignores_the_order_of_images(data: Path) -> None:
    dataset = read_train(data)
    turned = Dataset(dataset.root, dataset.images[::-1])
    assert verify(turned).fingerprint == verify(dataset).fingerprint


@pytest.mark.parametrize(("total", "warned"), [("1.5", False), ("1.509", False), ("1.511", True), ("2.75", True)])
def test_a_broken_mass_balance_is_warned_of_and_kept(data: Path, total: str, warned: bool) -> None:
    edit(data, put(4, "target", total))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = read_train(data)
    assert len(caught) == warned
    if warned:
        assert re.search(r"train\.csv: 1 image\(s\) break the mass balance .*worst: ID0004", str(caught[0].message))
        assert caught[0].filename == __file__
    assert dataset.targets[3, 4] == float(total)


def test_test_images_have_ids_and_paths_only(data: Path) -> None:
    dataset = read_test(data)
    assert dataset.ids == ["T1"]
    assert dataset.paths == [data / "test/T1.jpg"]
    assert list(dataset.images.columns) == ["image_path"]
    assert re.fullmatch("[0-9a-f]{64}", verify(dataset).fingerprint)


TEST_REFUSALS: dict[str, tuple[Change, str]] = {
    "columns missing": (lambda t: t.drop(columns=["image_path"]), r": column\(s\) image_path missing"),
    "row twice": (lambda t: pd.concat([t, t[:1]]), ", line 7: sample_id 'T1__Dry_Green_g' appears twice"),
    "unknown target": (
        lambda t: t.assign(sample_id="T1__Hay_g", target_name="Hay_g"),
        ", line 2: unknown target 'Hay_g'",
    ),
    "path outside": (put(2, "image_path", "../T1.jpg"), ", line 4: image_path '../T1.jpg' leaves"),
    "two paths": (put(2, "image_path", "test/T2.jpg"), ", line 4: image_path differs"),
}


@pytest.mark.parametrize(("change", "reason"), TEST_REFUSALS.values(), ids=TEST_REFUSALS.keys())
def test_a_broken_test_table_is_refused(data: Path, change: Change, reason: str) -> None:
    edit(data, change, "test.csv")
    with pytest.raises(InputError, match=rf"test\.csv{reason}"):
        read_test(data)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real sample is not beside this checkout")
def test_the_real_sample_is_read() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one real image may break the mass balance
        train, test = read_train(SAMPLE), read_test(SAMPLE)
    assert (len(train), len(test)) == (72, 12)
    assert train.baseline() == pytest.approx(0.252, abs=0.001)
    assert train.targets.shape == (72, len(TARGETS))
    assert all(path.is_file() for path in [*train.paths, *test.paths])
