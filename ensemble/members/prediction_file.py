"""Prediction files of other tools: by image id, in any order, as CSV, Parquet or NumPy array."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa

from ensemble.members.array_file import SUFFIXES, read_arrays
from pasture.errors import InputError, read_error
from pasture.sample_ids import split_sample_ids
from pasture.targets import TARGETS, Array


def read_members(path: Path, ids: Path | None = None, columns: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """Five predictions in grams for every image of a file, by the name of the member.

    Args:
        path: CSV or Parquet, either with the columns `image_id` and the five targets (others are not looked at) or with
            those of a submission, `sample_id` and `target`: one member, which has the name of the file. Or arrays as
            .npy or .npz, of one member or many: see `read_arrays`.
        ids: for arrays: the image id of each row; a text file of one id a line (a first line `image_id` is skipped), or
            an array of strings.
        columns: for arrays: the target of each column.

    Returns:
        Index image_id in the order of the file, columns `TARGETS`.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    tables = read_arrays(path, ids, columns) if path.suffix in SUFFIXES else {path.stem: read_table(path)}
    return {name: _checked(path, table) for name, table in tables.items()}


def as_known(path: Path, predictions: pd.DataFrame, known: Container[str]) -> pd.DataFrame:
    """Predictions with ids as the data has them: `train/ID12.jpg`, `ID12.jpg` and `12` are `ID12` where that is known.

    Raises:
        InputError: two rows are of one image.
    """

    def name(image: str) -> str:
        stem = PurePosixPath(image).name.removesuffix(".jpg")
        return next((like for like in (image, stem, f"ID{stem}") if like in known), image)

    return _each_once(path, predictions.rename(index=name))


def _checked(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    if "image_id" not in table.columns and {"sample_id", "target"} <= set(table.columns):
        table = _from_submission(path, table)
    if absent := [name for name in ("image_id", *TARGETS) if name not in table.columns]:
        raise InputError(
            f"{path}: column(s) {', '.join(absent)} missing, found {', '.join(map(str, table.columns))}; expected "
            f"image_id and {', '.join(TARGETS)}"
        )
    values = table.set_index(table["image_id"].astype(str))[list(TARGETS)].apply(pd.to_numeric, errors="coerce")
    bad = ~np.isfinite(values.to_numpy(dtype=np.float64)).all(axis=1)
    if bad.any():
        raise InputError(f"{path}: a prediction for image {values.index[bad][0]} is missing or not a finite number")
    if values.empty:
        raise InputError(f"{path}: no rows; expected one for each image")
    return _each_once(path, pd.DataFrame(values.astype(np.float64)))


def _each_once(path: Path, predictions: pd.DataFrame) -> pd.DataFrame:
    if predictions.index.has_duplicates:
        raise InputError(f"{path}: image {predictions.index[predictions.index.duplicated()][0]} appears twice")
    return predictions


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file as it is.

    Raises:
        InputError: no such file, or not what its name says.
    """
    try:
        if path.suffix == ".parquet":
            return pd.DataFrame(pd.read_parquet(path))
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype={"image_id": str, "sample_id": str}, keep_default_na=False)
    except OSError as error:
        raise read_error(path, error) from None
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable {path.suffix[1:]} file ({str(error).splitlines()[0]})") from None
    raise InputError(f"{path}: expected a file that ends in .csv, .parquet, .npy or .npz")


def _from_submission(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    # Columns of the same names, as in train.csv, are not looked at.
    table = split_sample_ids(table["sample_id"]).join(table[["target"]])
    if table.duplicated(["image_id", "target_name"]).any():
        raise InputError(f"{path}: a sample_id appears twice")
    order = table["image_id"].drop_duplicates()
    return table.pivot(index="image_id", columns="target_name", values="target").loc[order].reset_index()


def read_given(given: dict[str, Path], image_ids: list[str]) -> dict[str, Array]:
    """(n, 5) predictions in grams for n images, from a file for each external member.

    Raises:
        InputError: a file cannot be read, or has no prediction for one of the images.
    """
    result = {}
    for key, path in given.items():
        tables = list(read_members(path).values())
        if len(tables) > 1:
            raise InputError(f"{path}: predictions of {len(tables)} members; give a file for each")
        table = as_known(path, tables[0], frozenset(image_ids))
        if absent := [image for image in image_ids if image not in table.index]:
            raise InputError(f"{path}: no prediction for {len(absent)} of {len(image_ids)} images, such as {absent[0]}")
        result[key] = table.loc[image_ids].to_numpy(dtype=np.float64)
    return result
