"""The submission file, in the order of sample_submission.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pasture.errors import InputError
from pasture.files import Folder
from pasture.targets import TARGETS, Array


def write_submission(out: Path, data: Path, image_ids: list[str], predictions: Array) -> int:
    """Write `sample_id,target` rows, atomically; the number of rows.

    Args:
        out: file to write.
        data: data folder; its sample_submission.csv gives the order, else every image's targets follow one another.
        image_ids: n ids.
        predictions: (n, 5) in grams.

    Raises:
        InputError: sample_submission.csv asks for something that was not predicted.
        JobError: the file cannot be written.
    """
    wide = pd.DataFrame(predictions, index=image_ids, columns=list(TARGETS))
    values = {f"{image}__{target}": wide.at[image, target] for image in image_ids for target in TARGETS}
    source = data / "sample_submission.csv"
    order = list(values)
    if source.is_file():
        order = pd.read_csv(source, dtype=str).get("sample_id", pd.Series(dtype=str)).tolist()
        if absent := [sample for sample in order if sample not in values]:
            raise InputError(f"{source}: {absent[0]!r} is not a target of a photograph in test.csv")
        if not order:
            raise InputError(f"{source}: no column sample_id, or no rows")
    table = pd.DataFrame({"sample_id": order, "target": [values[sample] for sample in order]})
    out = out.absolute()
    Folder.at(out.parent).write(out.name, table.to_csv(index=False, float_format="%.6f").encode())
    return len(table)
