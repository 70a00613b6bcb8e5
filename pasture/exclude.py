"""A data folder without some of the labelled photographs of another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from pasture.atomic import atomic_folder
from pasture.dataset import read_test, read_train
from pasture.errors import InputError, read_error
from pasture.sample_ids import split_sample_ids


def read_ids(file: Path) -> list[str]:
    """Image ids from a text file, one in each line; empty lines and what follows a # do not count.

    Raises:
        InputError: the file cannot be read, or has no id.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a text file with one image id in each line") from None
    except OSError as error:
        raise read_error(file, error) from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: not text; expected one image id in each line") from None
    ids = [word for line in lines if (word := line.split("#")[0].strip())]
    if not ids:
        raise InputError(f"{file}: no image id; expected one in each line")
    return ids


def write_without(data: Path, ids: Collection[str], out: Path) -> int:
    """Write a data folder without some labelled photographs; it has a fingerprint of its own.

    Pictures are hard-linked, or copied if that is impossible. Test photographs stay, also where they are excluded from
    the labelled ones.

    Args:
        data: data folder; its test.csv is optional.
        ids: of the labelled photographs to leave out.
        out: folder to write; appears only when complete.

    Returns:
        Number of labelled photographs that are left.

    Raises:
        InputError: bad data, an id that is not in train.csv, no measured photograph left, or `out` is not empty.
    """
    train = read_train(data)
    if unknown := sorted(set(ids) - set(train.ids)):
        raise InputError(
            f"{data / 'train.csv'}: no image {unknown[0]!r} to exclude; expected ids such as {train.ids[0]}"
        )
    kept = ~train.images.index.isin(list(ids))
    if not train.measured[kept].any():
        raise InputError(f"{data}: excluding {len(set(ids))} photographs leaves no measured one; exclude fewer")
    paths = set(train.images.loc[kept, "image_path"])
    if (data / "test.csv").exists():
        paths |= set(read_test(data).images["image_path"])
    with atomic_folder(out) as folder:
        rows = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
        excluded = split_sample_ids(rows["sample_id"])["image_id"].isin(list(ids)).to_numpy()
        rows[~excluded].to_csv(folder / "train.csv", index=False, lineterminator="\n")
        for table in ("test.csv", "sample_submission.csv"):
            if (data / table).exists():
                shutil.copyfile(data / table, folder / table)
        for path in sorted(paths):
            link_or_copy(data / path, folder / path)
    return int(kept.sum())


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that is impossible; makes the folder of `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()  # the link of a relative link would point nowhere
    try:
        os.link(source, target)
    except OSError:  # another device, a filesystem without hard links, a file of another user
        shutil.copyfile(source, target)
