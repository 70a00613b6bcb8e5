"""Predictions as NumPy arrays, of one member or of many, with ids of the rows and targets of the columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pasture.errors import InputError
from pasture.targets import TARGETS

SUFFIXES: Final = (".npy", ".npz")


def read_arrays(path: Path, ids: Path | None, columns: list[str] | None) -> dict[str, pd.DataFrame]:
    """The members of a .npy or .npz file by name, each with the columns image_id and the five targets.

    An array (n, 5) is one member and has the name of the file; (m, n, 5) is m of them, which are numbered. A .npz may
    hold several of either, and may hold the `ids` and `columns` of all of them, so that neither need be given.

    Args:
        path: the file.
        ids: the image id of each row, as `read_members` has it.
        columns: the target of each column.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    arrays = _load(path)
    if ids is not None:
        arrays["ids"] = np.array(_read_ids(ids))
    if columns:
        arrays["columns"] = np.array(columns)
    if not {"ids", "columns"} <= arrays.keys():
        raise InputError(
            f"{path}: an array has no ids and no names; give --ids FILE and --columns {','.join(TARGETS)}, or put "
            "arrays `ids` and `columns` into a .npz"
        )
    names, targets = (arrays.pop(name).ravel().astype(str).tolist() for name in ("ids", "columns"))
    if sorted(targets) != sorted(TARGETS):
        raise InputError(
            f"--columns {','.join(targets)}: expected the five targets in the order of the array's columns: "
            f"{', '.join(TARGETS)}"
        )
    members = _members(path, arrays)
    for array in members.values():
        if array.shape[1:] != (len(TARGETS),) or array.dtype.kind not in "fiu":
            raise InputError(f"{path}: array {array.shape} of {array.dtype}, expected (images, {len(TARGETS)}) numbers")
        if len(names) != len(array):
            raise InputError(f"{path}: {len(array)} rows, but {ids or 'its ids'} has {len(names)} ids")
    return {name: pd.DataFrame(array, columns=targets).assign(image_id=names) for name, array in members.items()}


def _members(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(n, 5) each; a stack of members in parts."""
    members: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        name = path.stem if len(arrays) == 1 else f"{path.stem}-{key}"
        if array.ndim == 3:
            members |= {f"{name}-{i:02}": part for i, part in enumerate(array)}
        else:
            members[name] = array
    if not members:
        raise InputError(f"{path}: no predictions; expected an array (images, 5), or (members, images, 5)")
    return members


def _read_ids(path: Path) -> list[str]:
    if path.suffix == ".npy":
        return [str(name) for name in next(iter(_load(path).values())).ravel().astype(str)]
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable list of image ids ({error})") from None
    names = [line for line in lines if line]
    return names[1:] if names[:1] == ["image_id"] else names


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; never unpickled, for a pickle can run code."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except Exception as error:  # damaged bytes raise whatever zipfile, zlib and numpy stumble over
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path}: not a readable {path.suffix} array (of Python objects, or no array: a pickle, which may run "
                "code, is not read); save strings as ids.astype(str)"
            ) from None
        raise InputError(f"{path}: not a readable {path.suffix} array ({str(error).splitlines()[0]})") from None
