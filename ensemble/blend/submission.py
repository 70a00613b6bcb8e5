"""The submission file, in the order of sample_submission.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pasture.errors import InputError
from pasture.files import Folder
from pasture.targets import TARGETS, Array


def read_order(data: Path, image_ids: list[str]) -> list[str]:
    """Sample ids in the order of sample_submission.csv; without that file every image's targets follow one another.

    Args:
        data: data folder.
        image_ids: the images that will be predicted.

    Raises:
        InputError: the file is damaged, or asks for something that will not be predicted.
    """
    known = [f"{image}__{target}" for image in image_ids for target in TARGETS]
    source = data / "sample_submission.csv"
    if not source.is_file():
        return known
    try:
        order = pd.read_csv(source, dtype=str, keep_default_na=False).get("sample_id", pd.Series(dtype=str)).tolist()
    except ValueError as error:
        raise InputError(f"{source}: not a CSV file ({error})") from None
    if not order:
        raise InputError(f"{source}: no column sample_id, or no rows")
    if absent := sorted(set(order).difference(known)):
        raise InputError(f"{source}: {absent[0]!r} is not a target of a photograph in test.csv")
    if len(set(order)) < len(order):
        raise InputError(f"{source}: a sample_id appears twice")
    return order


def write_submission(out: Path, order: list[str], image_ids: list[str], predictions: Array) -> None:
    """Write `sample_id,target` rows, atomically.

    Args:
        out: file to write.
        order: sample ids, from `read_order`.
        image_ids: n ids.
        predictions: (n, 5) in grams.

    Raises:
        JobError: the file cannot be written.
    """
    samples = [f"{image}__{target}" for image in image_ids for target in TARGETS]
    values = pd.Series(predictions.ravel(), index=samples)[order]
    content = values.rename_axis("sample_id").to_csv(header=["target"], float_format="%.6f")
    out = out.absolute()
    Folder.at(out.parent).write(out.name, content.encode())
