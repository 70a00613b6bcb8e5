"""Reading the CSV files of a data folder, and the checks of their rows that train.csv and test.csv share."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pandas as pd

from pasture.errors import InputError, read_error
from pasture.findings import Findings
from pasture.sample_ids import join_sample_ids, split_sample_ids
from pasture.targets import TARGETS


def data_root(location: str | os.PathLike[str], name: str) -> Path:
    """Absolute path of a data folder that should contain the file `name`.

    Raises:
        InputError: there is no such folder.
    """
    root = Path(location).expanduser().absolute()
    if not root.is_dir():
        raise InputError(f"{root}: no such data folder; expected one with {name} and pictures")
    return root


def read_csv(source: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """All values of a CSV file as strings, indexed by line number; lines without any value are left out.

    Raises:
        InputError: no such file, not a CSV file, columns missing, or no rows.
        StorageError: the disk fails.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file; a data folder in the competition's layout has one")
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except OSError as error:
        raise read_error(source, error) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: not a CSV file ({error})") from None
    if absent := [c for c in columns if c not in table.columns]:
        raise InputError(f"{source}: column(s) {', '.join(absent)} missing; found {', '.join(map(str, table.columns))}")
    table.index = pd.RangeIndex(2, len(table) + 2)  # as an editor numbers the lines of the file
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{source}: no rows; expected five for each image")
    return table


def check_rows(source: Path, table: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Check ids, target names and paths; the table with the column `image_id`, without rows that have a wrong id."""
    parts = split_sample_ids(table["sample_id"])
    table = table.assign(image_id=parts["image_id"])
    nameless = parts["target_name"].isna() | (parts["image_id"] == "")
    findings.add_rows(source, table, nameless, "sample_id {sample_id!r} is not <image id>__<target name>")
    other = (parts["target_name"] != table["target_name"]) & ~nameless
    findings.add_rows(source, table, other, "sample_id {sample_id!r} does not end in its target_name")
    unknown = ~table["target_name"].isin(TARGETS) & ~nameless & ~other
    findings.add_rows(source, table, unknown, f"unknown target {{target_name!r}}; expected one of {', '.join(TARGETS)}")
    twice = table["sample_id"].duplicated() & ~nameless
    findings.add_rows(source, table, twice, "sample_id {sample_id!r} appears twice")
    outside = ~table["image_path"].map(stays_inside)
    message = "image_path {image_path!r} leaves the data folder; give a path inside it"
    findings.add_rows(source, table, outside, message)
    return table[~(nameless | other | unknown | twice)]


def stays_inside(path: str) -> bool:
    """Whether a relative path names a file inside the folder it is relative to."""
    pure = PurePosixPath(path.replace("\\", "/"))
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and ":" not in pure.parts[0]


def one_row_per_image(source: Path, table: pd.DataFrame, metadata: list[str], findings: Findings) -> pd.DataFrame:
    """Index image_id, sorted; image_path and the metadata, which must be the same in all rows of an image."""
    # Sorted by id: the order of the file must not decide which images a seed puts into which fold.
    columns = ["image_path", *metadata]
    images = table.drop_duplicates("image_id").set_index("image_id")[columns].sort_index()
    for column in columns:
        first = table["image_id"].map(images[column])
        differs = (table[column] != first) & ~(table[column].isna() & first.isna())
        findings.add_rows(source, table, differs, f"{column} differs from that of the other rows of image {{image_id}}")
    return images


def read_sample_submission(root: Path, image_ids: list[str]) -> list[str]:
    """Sample ids in the order of sample_submission.csv; image after image if there is no such file.

    Args:
        root: data folder.
        image_ids: the images of test.csv.

    Raises:
        InputError: not a CSV file, or its rows are not those of the images, naming the first that is missing, twice or
            of another image.
        StorageError: the disk fails.
    """
    expected = join_sample_ids(image_ids)
    source = root / "sample_submission.csv"
    if not source.exists():
        return expected
    samples = read_csv(source, ("sample_id",))["sample_id"]
    order, known = samples.tolist(), frozenset(expected)
    if foreign := [s for s in order if s not in known]:
        raise InputError(f"{source}: {foreign[0]!r} is not a target of a photograph in test.csv; {_REPAIR}")
    if samples.duplicated().any():
        raise InputError(f"{source}: sample_id {samples[samples.duplicated()].iloc[0]!r} appears twice; {_REPAIR}")
    if len(order) < len(expected):
        given = frozenset(order)
        missing = next(s for s in expected if s not in given)
        raise InputError(
            f"{source}: {len(expected) - len(order)} of {len(expected)} rows missing, such as {missing!r}; {_REPAIR}"
        )
    return order


_REPAIR = "expected every sample_id of test.csv once; correct the file, or remove it to get the order of test.csv"
