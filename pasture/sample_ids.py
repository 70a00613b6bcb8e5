"""Sample ids, `<image id>__<target name>`: the keys of the competition's tables."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from pasture.targets import TARGETS


def join_sample_ids(image_ids: Iterable[str]) -> list[str]:
    """Sample ids of all five targets of each image, image after image, targets in the order of `TARGETS`."""
    return [f"{image_id}__{target}" for image_id in image_ids for target in TARGETS]


def split_sample_ids(sample_ids: pd.Series) -> pd.DataFrame:
    """Columns `image_id` and `target_name`, with the index of `sample_ids`; `target_name` is missing without a `__`."""
    parts = sample_ids.astype(str).str.rsplit("__", n=1, expand=True).reindex(columns=[0, 1])
    return parts.set_axis(["image_id", "target_name"], axis=1)
