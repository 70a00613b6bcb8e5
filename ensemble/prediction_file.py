"""Predictions in a file of somebody's own making: by image id, in whatever order, as CSV, Parquet or NumPy array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pasture.errors import InputError
from pasture.targets import TARGETS, Array


def read_predictions(path: Path, ids: Path | None = None, columns: list[str] | None = None) -> pd.DataFrame:
    """Five predictions in grams for every image of a file.

    Args:
        path: CSV or Parquet, either with the columns `image_id` and the five targets (others are not looked at) or with
            those of a submission, `sample_id` and `target`; or an array (n, 5) as .npy.
        ids: for an array: the image id of each row; a text file of one id a line (a first line `image_id` is
            skipped), or an array of strings.
        columns: for an array: the target of each column.

    Returns:
        Index image_id in the order of the file, columns `TARGETS`.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    table = _array(path, ids, columns) if path.suffix == ".npy" else read_table(path)
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
    if values.index.has_duplicates:
        raise InputError(f"{path}: image {values.index[values.index.duplicated()][0]} appears twice")
    if values.empty:
        raise InputError(f"{path}: no rows; expected one for each image")
    return pd.DataFrame(values.astype(np.float64))


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
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable {path.suffix[1:]} file ({str(error).splitlines()[0]})") from None
    raise InputError(f"{path}: expected a file that ends in .csv, .parquet or .npy")


def _from_submission(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    parts = table["sample_id"].astype(str).str.rsplit("__", n=1, expand=True).reindex(columns=[0, 1])
    table = table.assign(image_id=parts[0], target_name=parts[1])
    if table.duplicated(["image_id", "target_name"]).any():
        raise InputError(f"{path}: a sample_id appears twice")
    order = table["image_id"].drop_duplicates()
    return table.pivot(index="image_id", columns="target_name", values="target").loc[order].reset_index()


def _array(path: Path, ids: Path | None, columns: list[str] | None) -> pd.DataFrame:
    if ids is None or not columns:
        raise InputError(f"{path}: an array has no ids and no names; give --ids FILE and --columns {','.join(TARGETS)}")
    if sorted(columns) != sorted(TARGETS):
        raise InputError(
            f"--columns {','.join(columns)}: expected the five targets in the order of the array's columns: "
            f"{', '.join(TARGETS)}"
        )
    array, names = _load(path), _ids(ids)
    if array.ndim != 2 or array.shape[1] != len(TARGETS) or array.dtype.kind not in "fiu":
        raise InputError(f"{path}: array {array.shape} of {array.dtype}, expected (images, {len(TARGETS)}) numbers")
    if len(names) != len(array):
        raise InputError(f"{path}: {len(array)} rows, but {ids} has {len(names)} ids")
    return pd.DataFrame(array, columns=columns).assign(image_id=names)


def _ids(path: Path) -> list[str]:
    if path.suffix == ".npy":
        return [str(name) for name in _load(path).ravel()]
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable list of image ids ({error})") from None
    names = [line for line in lines if line]
    return names[1:] if names[:1] == ["image_id"] else names


def _load(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy array ({str(error).splitlines()[0]})") from None


def read_given(given: dict[str, Path], image_ids: list[str]) -> dict[str, Array]:
    """(n, 5) predictions in grams for n images, from a file for each member that was imported.

    Raises:
        InputError: a file cannot be read, or has no prediction for one of the images.
    """
    result = {}
    for key, path in given.items():
        table = read_predictions(path)
        if absent := [image for image in image_ids if image not in table.index]:
            raise InputError(f"{path}: no prediction for {len(absent)} of {len(image_ids)} images, such as {absent[0]}")
        result[key] = table.loc[image_ids].to_numpy(dtype=np.float64)
    return result
