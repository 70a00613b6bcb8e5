from __future__ import annotations

import pandas as pd

from pasture.sample_ids import join_sample_ids, split_sample_ids
from pasture.targets import TARGETS


def test_joined_ids_are_split_into_images_and_targets() -> None:
    samples = pd.Series(join_sample_ids(["ID1", "a__b"]), index=range(2, 12))
    assert samples.tolist()[:2] == ["ID1__Dry_Green_g", "ID1__Dry_Dead_g"]
    parts = split_sample_ids(samples)
    assert parts["image_id"].tolist() == ["ID1"] * 5 + ["a__b"] * 5
    assert parts["target_name"].tolist() == [*TARGETS] * 2
    assert parts.index.tolist() == samples.index.tolist()


def test_an_id_without_a_target_has_none() -> None:
    parts = split_sample_ids(pd.Series(["ID1", "ID2__GDM_g"]))
    assert parts["image_id"].tolist() == ["ID1", "ID2"]
    assert parts["target_name"].isna().tolist() == [True, False]
    assert split_sample_ids(pd.Series(["ID1"]))["target_name"].isna().all()
