"""Predictions of another tool, in the files that it might write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ensemble.members.external import import_members
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array, from_components

IMAGES, DATES, MEMBERS = 357, 28, 34
SHUFFLED = ["Dry_Total_g", "Dry_Clover_g", "Dry_Green_g", "Dry_Dead_g", "GDM_g"]


class Theirs:
    """A train.csv without pictures, and OOF predictions of 34 models as arrays with ids and names of columns."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        self.ids = [f"ID{i}" for i in rng.permutation(IMAGES) + 1000]
        day = np.arange(IMAGES) % DATES
        expected = rng.gamma(8.0, 1 / 8, (DATES, 1))[day] * rng.gamma(4.0, 1 / 4, (IMAGES, 3)) * [25.0, 10.0, 6.0]
        self.truth = from_components(expected * rng.gamma(10.0, 1 / 10, expected.shape))
        own = rng.normal(0, 1, (MEMBERS, IMAGES, 3)) * rng.uniform(2, 7, (MEMBERS, 1, 1))
        self.members = from_components((expected + own).clip(0))
        dates = pd.to_datetime("2015-01-01") + pd.to_timedelta(7 * day, unit="D")
        rows = pd.DataFrame({"image": self.ids, "Sampling_Date": dates.strftime("%Y/%m/%d")})
        rows[list(TARGETS)] = self.truth
        table = rows.melt(["image", "Sampling_Date"], list(TARGETS), "target_name", "target")
        table["sample_id"] = table["image"] + "__" + table["target_name"]
        table["image_path"] = "train/" + table["image"] + ".jpg"
        table = table.assign(State="Tas", Species="Clover", Pre_GSHH_NDVI=0.5, Height_Ave_cm=5)
        self.csv = folder / "train.csv"
        table.to_csv(self.csv, index=False)
        self.id_file = folder / "ids.txt"
        self.id_file.write_text("\n".join(self.ids))

    def array(self, predictions: Array, name: str = "m") -> Path:
        """A file of (357, 5) predictions, its columns in the order `SHUFFLED`."""
        path = self.folder / f"{name}.npy"
        np.save(path, predictions[:, [TARGETS.index(c) for c in SHUFFLED]])
        return path

    def wide(self, predictions: Array, name: str, ids: list[str] | None = None) -> pd.DataFrame:
        table = pd.DataFrame(predictions, columns=list(TARGETS)).assign(image_id=ids or self.ids, junk="x")
        table.to_csv(self.folder / f"{name}.csv", index=False)
        table.to_parquet(self.folder / f"{name}.parquet", index=False)
        return table


def come_in(theirs: Theirs, run: RunFolder, *files: Path, **more: Path) -> None:
    import_members(files, theirs.csv, run, theirs.id_file, SHUFFLED, **more)
