"""Members from other tools: OOF predictions become a run directory that can be blended like any other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ensemble.members.alignment import check_columns, check_rows, check_scale
from ensemble.members.prediction_file import as_known, read_members, read_table
from pasture.dataset import read_train
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.sample_ids import split_sample_ids
from pasture.targets import Array
from pasture.verification import fingerprint_of


def import_members(
    files: Sequence[Path],
    truth: Path,
    run: RunFolder,
    ids: Path | None = None,
    columns: list[str] | None = None,
    folds: Path | None = None,
) -> list[OofTable]:
    """Write a run directory from files of OOF predictions; all of them, or none.

    Predictions are joined with the truth by image id and kept as they are, neither projected nor clipped, so that
    they have the scores that the other tool reported. They are refused where they belong to other images or targets,
    are on another scale or are the truth itself (see `alignment`). An external member has no models: what it predicts
    for new photographs is given at prediction.

    Args:
        files: of one member or several, as `read_members` takes them.
        truth: train.csv, or its folder; no picture is read.
        run: must not exist.
        ids: for arrays: the image id of each row.
        columns: for arrays: the target of each column.
        folds: CSV or Parquet with `image_id` and `fold`, of all members; unknown where None.

    Returns:
        The tables, in the order of their names. Metadata has `trial` (the name of the file), `score` (OOF R2) and
        `missing` (the number of measured images that the file lacks).

    Raises:
        InputError: `run` exists, or a file cannot be imported, naming it.
        JobError: the run cannot be written.
    """
    if run.folder.exists():
        raise InputError(f"{run}: exists already; choose another --name, or remove it")
    source = truth / "train.csv" if truth.is_dir() else truth
    dataset = read_train(source.parent, source.name)
    measured = {i: row for i, row, real in zip(dataset.ids, dataset.targets, dataset.measured, strict=True) if real}
    orders = {"the order of " + source.name: _file_order(source, measured), "the order of their ids": sorted(measured)}
    held_out = None if folds is None else _read_folds(folds)
    members = [(file, *member) for file in files for member in read_members(file, ids, columns).items()]
    names = [re.sub(r"[^\w.-]", "_", name).lstrip(".") for _, name, _ in members]
    if doubled := next((name for name in names if not name or names.count(name) > 1), None):
        raise InputError(f"{doubled!r}: each member has the name of its file, and names must differ; rename one")
    tables = []
    for name, (file, _, given) in zip(names, members, strict=True):
        predictions = as_known(file, given, measured)
        expected = _aligned(file, predictions, measured, orders)
        fold = _folds_of(file, predictions.index, held_out)
        table = _table(name, predictions, expected, fold)
        table.metadata.update(fingerprint=fingerprint_of(dataset), missing=len(measured) - len(predictions))
        tables.append(table)
    tables.sort(key=lambda table: str(table.metadata["trial"]))
    for table in tables:
        table.write(run.oof, f"{table.metadata['trial']}.parquet")
    run.write_truth(dataset)  # last: a run without it cannot be read
    return tables


def external_members(run: RunFolder) -> list[OofTable]:
    """The tables that `import_members` wrote into a run, in the order of their names.

    Raises:
        InputError: a file is damaged.
    """
    return [run.read_oof(name.removesuffix(".parquet")) for name in run.oof.names(".parquet")]


def _aligned(file: Path, predictions: pd.DataFrame, measured: dict[str, Array], orders: dict[str, list[str]]) -> Array:
    """(n, 5) truth of the images of a file, after checking that the file predicts them."""
    if unknown := [i for i in predictions.index if i not in measured]:
        raise InputError(
            f"{file}: {len(unknown)} of {len(predictions)} images are not in the truth, such as {unknown[0]!r}; "
            f"expected ids such as {next(iter(measured))!r}"
        )
    ids, values = predictions.index.tolist(), predictions.to_numpy()
    expected = np.stack([measured[i] for i in ids])
    check_rows(str(file), measured, ids, values, orders)
    check_scale(str(file), expected, values)
    check_columns(str(file), expected, values)
    return expected


def _table(name: str, predictions: pd.DataFrame, expected: Array, folds: Array | None) -> OofTable:
    values = predictions.to_numpy()
    content = hashlib.sha256(name.encode() + values.astype("<f8").tobytes()).hexdigest()[:12]
    metadata = {
        "trial": name,
        "recipe": {},
        "recipe_hash": content,
        "score": weighted_r2(expected, values),
        "epoch": 0,
        "external": True,
        "folds_known": folds is not None,
    }
    unknown = np.zeros(len(values), dtype=np.int8)
    return OofTable(
        predictions.index.tolist(), unknown if folds is None else folds.astype(np.int8), values[:, None], metadata
    )


def _file_order(source: Path, measured: dict[str, Array]) -> list[str]:
    samples = pd.read_csv(source, dtype=str, usecols=["sample_id"], keep_default_na=False)["sample_id"]
    return [i for i in split_sample_ids(samples)["image_id"].drop_duplicates() if i in measured]


def _read_folds(path: Path) -> pd.Series:
    table = read_table(path)
    if absent := [name for name in ("image_id", "fold") if name not in table.columns]:
        raise InputError(f"{path}: no column {absent[0]}; expected image_id and fold")
    number = pd.to_numeric(table["fold"], errors="coerce")
    if not number.between(0, 126).all() or (number % 1 != 0).any():
        raise InputError(f"{path}: a fold is not a number from 0 to 126")
    series = pd.Series(number.to_numpy(), index=table["image_id"].astype(str))
    if series.index.has_duplicates:
        raise InputError(f"{path}: image {series.index[series.index.duplicated()][0]} appears twice")
    return series


def _folds_of(file: Path, images: pd.Index, held_out: pd.Series | None) -> Array | None:
    if held_out is None:
        return None
    if absent := [i for i in images if i not in held_out.index]:
        raise InputError(f"{file}: --folds has no fold for image {absent[0]}")
    return held_out.loc[images].to_numpy()
