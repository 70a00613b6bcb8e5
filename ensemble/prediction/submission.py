"""Writing the submission file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pasture.files import Folder
from pasture.sample_ids import join_sample_ids
from pasture.targets import Array


def write_submission(out: Path, order: list[str], image_ids: list[str], predictions: Array) -> None:
    """Write `sample_id,target` rows, atomically.

    Args:
        out: file to write.
        order: sample ids, from `pasture.data_table.read_sample_submission`.
        image_ids: n ids.
        predictions: (n, 5) in grams.

    Raises:
        JobError: the file cannot be written.
    """
    samples = join_sample_ids(image_ids)
    values = pd.Series(predictions.ravel(), index=samples)[order]
    content = values.rename_axis("sample_id").to_csv(header=["target"], float_format="%.6f")
    out = out.absolute()
    Folder.at(out.parent).write(out.name, content.encode())
