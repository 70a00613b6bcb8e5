"""A tiny data folder in the competition's layout, to read, to shuffle and to damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.fs as pafs
import pytest
from PIL import Image

from pasture.dataset import Dataset
from pasture.files import Folder
from pasture.targets import TARGETS, from_components


def _make_folder(root: Path, images: int = 4, dates: int = 2) -> Path:
    """Write train.csv, test.csv and small JPEGs; the last image id sorts first, so that file order is not id order."""
    generator = np.random.default_rng(0)
    rows = []
    for i in range(images):
        image_id = f"ID{images - i:04d}"
        path = f"train/{image_id}.jpg"
        metadata = {
            "image_path": path,
            "Sampling_Date": f"2015/9/{1 + i % dates}",
            "State": "Tas",
            "Species": "Clover",
            "Pre_GSHH_NDVI": "0.62",
            "Height_Ave_cm": "4.6667",
        }
        grams = from_components(np.array([1.0 + i, 2.0 * i, 0.5]))
        rows += [
            {"sample_id": f"{image_id}__{name}", **metadata, "target_name": name, "target": str(value)}
            for name, value in zip(TARGETS, grams, strict=True)
        ]
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 32, 3), dtype=np.uint8)).save(root / path)
    pd.DataFrame(rows).to_csv(root / "train.csv", index=False)
    test = [{"sample_id": f"T1__{name}", "image_path": "test/T1.jpg", "target_name": name} for name in TARGETS]
    pd.DataFrame(test).to_csv(root / "test.csv", index=False)
    (root / "test").mkdir()
    Image.new("RGB", (32, 16), "green").save(root / "test/T1.jpg")
    return root


@pytest.fixture
def make_folder() -> Callable[..., Path]:
    """`make_folder(root, images=4, dates=2)` writes a sound data folder into `root` and returns it."""
    return _make_folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sound data folder of four images on two dates; the first in the file is ID0004."""
    root = tmp_path / "data"
    root.mkdir()
    return _make_folder(root)


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    """`make_dataset(dates, totals)`: labelled images without pictures, one for each entry."""

    def make(dates: list[int], totals: list[float]) -> Dataset:
        components = np.stack([np.asarray(totals), np.zeros(len(totals)), np.zeros(len(totals))], axis=1)
        images = pd.DataFrame(from_components(components), columns=list(TARGETS))
        images.insert(0, "date", pd.Timestamp("2015-01-01") + pd.to_timedelta(dates, unit="D"))
        images.index = pd.Index([f"ID{i:04d}" for i in range(len(dates))], name="image_id")
        return Dataset(Path("nowhere"), images)

    return make


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder that does not exist yet: once on the disk, once on a filesystem without local paths."""
    if request.param == "local":
        return Folder.at(tmp_path / "runs")
    return Folder(pafs._MockFileSystem(), "bucket/runs")
