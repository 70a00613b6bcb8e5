"""Writing a data folder of synthetic paddocks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

import cv2
import pandas as pd
from numpy.random import SeedSequence

from pasture.atomic import atomic_folder
from pasture.errors import InputError
from pasture.synthetic.picture import draw_picture
from pasture.synthetic.real_truth import draw_real_truth
from pasture.synthetic.truth import Plot, draw_truth
from pasture.targets import TARGETS

JPEG_QUALITY: Final = 90

Kind = Literal["demo", "real"]
DEFAULT_IMAGES: Final[dict[Kind, int]] = {"demo": 64, "real": 357}


def make_data(
    out: Path,
    images: int | None = None,
    test_images: int | None = None,
    seed: int = 0,
    *,
    like: Kind = "demo",
    width: int = 2000,
    height: int = 1000,
) -> int:
    """Write a data folder of synthetic paddocks in the competition's layout.

    Besides the competition's files there is `hidden_truth.csv` (sample_id, target in grams) of the test pictures. The
    same arguments give the same bytes, however many cores draw. `out` appears only when it is complete.

    Args:
        out: the folder; it must not exist, or be empty.
        images: training pictures; 64 by default, 357 (as in the competition) with `like="real"`.
        test_images: test pictures, from dates of their own; by default a quarter as many, at least 4.
        seed: of everything that is drawn.
        like: `demo` for an easy kind, `real` for one about as hard as the competition's photographs.
        width: of a picture in pixels.
        height: of a picture in pixels.

    Returns:
        The number of training pictures.

    Raises:
        InputError: a number is too small, or `out` is not empty or cannot be written.
        StorageError: the disk is full.
    """
    images = DEFAULT_IMAGES[like] if images is None else images
    test_images = max(4, images // 4) if test_images is None else test_images
    _check_least(2, images=images)
    _check_least(1, test_images=test_images)
    _check_least(0, seed=seed)
    _check_least(64, width=width, height=height)
    draw = draw_real_truth if like == "real" else draw_truth
    train, test = draw(images, test_images, SeedSequence(seed))
    with atomic_folder(out) as folder:
        _write_tables(folder, train, test)
        _write_pictures({folder / "train": train, folder / "test": test}, width, height)
    return images


def _check_least(least: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < least:
            raise InputError(f"{name} is {value}: at least {least} expected; give a larger number")


def _write_tables(folder: Path, train: list[Plot], test: list[Plot]) -> None:
    test_rows = _rows(test, "test")
    _write_csv(_rows(train, "train"), folder / "train.csv")
    _write_csv(test_rows[["sample_id", "image_path", "target_name"]], folder / "test.csv")
    _write_csv(test_rows[["sample_id"]].assign(target=0.0), folder / "sample_submission.csv")
    _write_csv(test_rows[["sample_id", "target"]], folder / "hidden_truth.csv")


def _rows(plots: list[Plot], split: str) -> pd.DataFrame:
    """Five rows a plot, sorted as in the competition: by image id, then by the target's name."""
    return pd.DataFrame(
        {
            "sample_id": f"{plot.image_id}__{name}",
            "image_path": f"{split}/{plot.image_id}.jpg",
            "Sampling_Date": plot.visit.date,
            "State": plot.visit.state,
            "Species": plot.species.name,
            "Pre_GSHH_NDVI": plot.ndvi,
            "Height_Ave_cm": plot.height_cm,
            "target_name": name,
            "target": target,
        }
        for plot in plots
        for name, target in sorted(zip(TARGETS, plot.targets().tolist(), strict=True))
    )


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def _write_pictures(folders: dict[Path, list[Plot]], width: int, height: int) -> None:
    def write(job: tuple[Path, Plot]) -> None:
        folder, plot = job
        picture = draw_picture(plot, width, height)
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (folder / f"{plot.image_id}.jpg").write_bytes(jpeg.tobytes())

    for folder in folders:
        folder.mkdir()
    # Threads suffice, since OpenCV and NumPy release the GIL; every picture has its own generator, so order is free.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, [(folder, plot) for folder, plots in folders.items() for plot in plots]))
