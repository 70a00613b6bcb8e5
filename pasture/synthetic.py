"""Synthetic paddocks: drawn pictures in the competition's layout whose pixels determine the weights.

First the truth is drawn (dates, species, grams), then each picture is drawn *from* its grams: so many blades, clover
leaves and straws for every gram, one over another, on soil, in the light of its date. A model can therefore learn the
weights from the pixels, and dates differ as they do in reality. Lengths are in pixels of a 2000 x 1000 picture and
scaled for other sizes; colours are BGR.
"""

from __future__ import annotations

import datetime
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pandas as pd
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.targets import TARGETS, Array, from_components

Image = NDArray[np.uint8]
Points = NDArray[np.int32]

STATES: Final = ("Tas", "Vic", "NSW", "WA")
YEAR_START: Final = datetime.date(2015, 1, 1)
DRY_RANGE: Final = (1.5, 130.0)
"""Least and greatest total of a picture, in grams, about those of the real data."""

BLADES_PER_G: Final = 42.0
STRAWS_PER_G: Final = 90.0
TREFOILS_PER_G: Final = 20.0

BATCHES: Final = 40
"""Batches a plant kind is drawn in: one colour and one depth each. Enough for variety, few enough to be quick."""

SUBPIXEL_BITS: Final = 4
JPEG_QUALITY: Final = 90


@dataclass(frozen=True)
class Species:
    """What grows: `clover` is its usual share of the living mass, `stature` its height in cm for a gram of dry mass."""

    name: str
    clover: float
    blade_length: float
    blade_width: float
    blade_colour: tuple[float, float, float]
    stature: float


SPECIES: Final = (
    Species("Ryegrass_Clover", 0.3, 170, 5, (55, 145, 110), 0.12),
    Species("Phalaris_Clover", 0.25, 230, 8, (75, 150, 115), 0.25),
    Species("Clover", 0.85, 150, 5, (55, 145, 110), 0.12),
    Species("Ryegrass", 0.0, 170, 5, (55, 145, 110), 0.12),
    Species("Lucerne", 0.0, 120, 10, (70, 140, 95), 0.4),
    Species("Fescue", 0.0, 200, 5, (65, 140, 120), 0.2),
    Species("WhiteClover", 0.8, 150, 5, (55, 145, 110), 0.1),
    Species("Phalaris", 0.0, 240, 8, (75, 150, 115), 0.3),
)


@dataclass(frozen=True)
class Light:
    """`gain` multiplies the brightness, `warmth` moves it from blue to red, `gamma` above 1 deepens the shadows."""

    gain: float
    warmth: float
    gamma: float


@dataclass(frozen=True)
class Visit:
    """What the pictures of one sampling date share. `living` and `dead` are mean levels in grams."""

    date: str
    state: str
    species: tuple[Species, ...]
    light: Light
    soil: tuple[float, float, float]
    living: float
    dead: float


@dataclass(frozen=True)
class Plot:
    """One picture's truth; green, dead and clover in grams. `entropy` seeds its drawing and nothing else."""

    image_id: str
    visit: Visit
    species: Species
    green: float
    dead: float
    clover: float
    ndvi: float
    height_cm: float
    entropy: SeedSequence

    def targets(self) -> Array:
        """The five targets (5,) in grams, to 4 decimals, in mass balance."""
        return np.round(from_components(np.array([self.green, self.dead, self.clover])), 4)


def make_data(
    out: Path, images: int = 64, test_images: int | None = None, seed: int = 0, *, width: int = 2000, height: int = 1000
) -> None:
    """Write a data folder of `images` training and `test_images` test pictures of `width` x `height` pixels.

    The folder has the competition's layout and, besides, `hidden_truth.csv` (sample_id, target in grams) of the test
    pictures. Those come from dates of their own; by default there are a quarter as many, at least 4. The same arguments
    give the same bytes, however many cores draw. `out` appears only when it is complete.

    Raises:
        InputError: a number is too small, or `out` is not empty or cannot be written.
    """
    test_images = max(4, images // 4) if test_images is None else test_images
    _check_least(2, images=images)
    _check_least(1, test_images=test_images)
    _check_least(0, seed=seed)
    _check_least(64, width=width, height=height)
    train, test = _draw_truth(images, test_images, SeedSequence(seed))
    with _complete_or_absent(out) as folder:
        _write_tables(folder, train, test)
        _write_pictures({folder / "train": train, folder / "test": test}, width, height)


def _check_least(least: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < least:
            raise InputError(f"{name} is {value}: at least {least} expected; give a larger number")


@contextmanager
def _complete_or_absent(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its name if the body succeeds and vanishes if it fails."""
    out = out.resolve()
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}.partial")
    try:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"{out} exists: a new or empty folder expected; choose another or remove it")
        partial.mkdir(parents=True)
        yield partial
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}): choose a folder that you may write") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# --- the truth ---


def _draw_truth(images: int, test_images: int, root: SeedSequence) -> tuple[list[Plot], list[Plot]]:
    """Training and test plots, each sorted by image id, from disjoint dates."""
    truth_seed, *entropies = root.spawn(1 + images + test_images)
    rng = np.random.default_rng(truth_seed)
    train_dates, test_dates = _date_count(images), _date_count(test_images)
    days = rng.choice(365, size=train_dates + test_dates, replace=False)
    visits = [_draw_visit(rng, int(day)) for day in days]
    ids = 10**9 + rng.choice(9 * 10**9, size=images + test_images, replace=False)
    # Dates are dealt in turn, so that each of them gets several pictures.
    dealt = [i % train_dates for i in range(images)] + [train_dates + i % test_dates for i in range(test_images)]
    plots = [
        _draw_plot(rng, f"ID{number}", visits[date], entropy)
        for number, date, entropy in zip(ids, dealt, entropies, strict=True)
    ]
    by_id = attrgetter("image_id")
    return sorted(plots[:images], key=by_id), sorted(plots[images:], key=by_id)


def _date_count(images: int) -> int:
    return max(1, min(28, images // 2, max(6, images // 4)))


def _draw_visit(rng: Generator, day: int) -> Visit:
    date = YEAR_START + datetime.timedelta(days=day)
    picks = rng.choice(len(SPECIES), size=2, replace=False)
    soil = np.array([62.0, 82.0, 104.0]) * rng.uniform(0.7, 1.25) * rng.uniform(0.93, 1.07, size=3)
    return Visit(
        date=f"{date.year}/{date.month}/{date.day}",
        state=STATES[rng.integers(len(STATES))],
        species=tuple(SPECIES[i] for i in picks),
        light=Light(gain=rng.uniform(0.9, 1.15), warmth=rng.uniform(-0.05, 0.05), gamma=rng.uniform(0.9, 1.2)),
        soil=(float(soil[0]), float(soil[1]), float(soil[2])),
        living=float(np.exp(rng.normal(np.log(30.0), 0.5))),
        dead=float(np.exp(rng.normal(np.log(8.0), 0.7))),
    )


def _draw_plot(rng: Generator, image_id: str, visit: Visit, entropy: SeedSequence) -> Plot:
    species = visit.species[rng.integers(len(visit.species))]
    living = visit.living * np.exp(rng.normal(0.0, 0.45))
    dead = visit.dead * np.exp(rng.normal(0.0, 0.5)) * (rng.random() > 0.1)
    # A mixed sward often has no clover in the frame: the real clover weights are zero in four pictures of ten.
    has_clover = species.clover > 0 and rng.random() < 0.5 + species.clover / 2
    clover_share = rng.beta(6 * species.clover, 6 * (1 - species.clover)) if has_clover else 0.0
    grams = np.array([living * (1 - clover_share), dead, living * clover_share])
    grams = np.round(grams * np.clip(grams.sum(), *DRY_RANGE) / grams.sum(), 4)
    green, dead, clover = grams.tolist()
    cover = 1 - np.exp(-(green + clover) / 22)
    ndvi = 0.28 + 0.58 * cover - 0.002 * dead + rng.normal(0, 0.04)
    height_cm = (1 + species.stature * (green + clover + 0.5 * dead)) * np.exp(rng.normal(0, 0.2))
    ndvi, height_cm = round(float(np.clip(ndvi, 0.1, 0.95)), 2), round(float(height_cm), 4)
    return Plot(image_id, visit, species, green, dead, clover, ndvi, height_cm, entropy)


# --- the tables ---


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


# --- the pictures ---


def _write_pictures(folders: dict[Path, list[Plot]], width: int, height: int) -> None:
    def write(job: tuple[Path, Plot]) -> None:
        folder, plot = job
        picture = _draw_picture(plot, width, height)
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (folder / f"{plot.image_id}.jpg").write_bytes(jpeg.tobytes())

    for folder in folders:
        folder.mkdir()
    # Threads suffice, since OpenCV and NumPy release the GIL; every picture has its own generator, so order is free.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, [(folder, plot) for folder, plots in folders.items() for plot in plots]))


def _draw_picture(plot: Plot, width: int, height: int) -> Image:
    """The picture (height, width, 3) of `plot`."""
    rng = np.random.default_rng(plot.entropy)
    scale = float(np.sqrt(width * height / 2e6))
    canvas = _soil(rng, plot.visit.soil, width, height)
    strokes = [stroke for kind in (_straws, _blades, _trefoils) for stroke in kind(rng, plot, scale, canvas)]
    for _, stroke in sorted(strokes, key=itemgetter(0)):
        stroke()
    return _photograph(rng, canvas, plot.visit.light)


def _soil(rng: Generator, colour: tuple[float, float, float], width: int, height: int) -> Image:
    relief = np.ones((height, width), dtype=np.float32)
    for cell, strength in ((200, 0.08), (40, 0.08), (8, 0.16), (2, 0.14)):
        relief += strength * _noise(rng, width, height, cell)
    return np.clip(relief[..., None] * np.array(colour, dtype=np.float32), 0, 255).astype(np.uint8)


def _noise(rng: Generator, width: int, height: int, cell: int) -> NDArray[np.float32]:
    """Smooth noise (height, width) of unit size that varies over about `cell` pixels."""
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


Stroke = tuple[float, Callable[[], None]]
"""Depth in [0, 1], 1 nearest the camera, and what draws it."""


def _straws(rng: Generator, plot: Plot, scale: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of dead straws."""
    lines = _curves(rng, round(plot.dead * STRAWS_PER_G), 130, 0.1, scale, canvas)
    return _line_strokes(rng, lines, (135, 180, 205), 4 * scale, canvas)


def _blades(rng: Generator, plot: Plot, scale: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of green blades of the plot's species."""
    lines = _curves(rng, round(plot.green * BLADES_PER_G), plot.species.blade_length, 0.2, scale, canvas)
    return _line_strokes(rng, lines, plot.species.blade_colour, plot.species.blade_width * scale, canvas)


def _line_strokes(
    rng: Generator, lines: Points, colour: tuple[float, float, float], thickness: float, canvas: Image
) -> Iterator[Stroke]:
    """Strokes of curved lines (n, points, 2); each has a dark edge on one side, which reads as its shadow."""
    for batch in np.array_split(lines, BATCHES):
        depth = rng.random()
        tint = _tint(rng, colour, depth)
        size = max(1, round(thickness * rng.uniform(0.6, 1.4)))

        def draw(batch: Points = batch, tint: Array = tint, size: int = size) -> None:
            offset = (size << SUBPIXEL_BITS) // 2
            for points, ink in ((batch + offset, tint * 0.35), (batch, tint)):
                cv2.polylines(canvas, list(points), False, ink.tolist(), size, cv2.LINE_8, SUBPIXEL_BITS)

        yield depth, draw


def _trefoils(rng: Generator, plot: Plot, scale: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of clover leaves: three leaflets each, in patches."""
    count = round(plot.clover * TREFOILS_PER_G)
    centres = _scatter(rng, count, 25, 110 * scale, canvas)
    radii = 15 * scale * rng.uniform(0.7, 1.35, size=count)
    turns = rng.uniform(0, 2 * np.pi, size=(count, 1)) + np.arange(3) * (2 * np.pi / 3)
    outlines = _fixed(centres[:, None, None] + radii[:, None, None, None] * _leaflet(turns))
    for batch in np.array_split(outlines, BATCHES):
        depth = rng.random()
        tint = _tint(rng, (60, 165, 100), depth)

        def draw(batch: Points = batch, tint: Array = tint) -> None:
            shadow, vein = (tint * 0.35).tolist(), np.minimum(tint * 1.2 + 12, 255).tolist()
            # Point 0 is a leaflet's tip, point 6 its base.
            for trefoil, veins in zip(batch, np.ascontiguousarray(batch[:, :, ::6]), strict=True):
                for leaflet in trefoil + (3 << SUBPIXEL_BITS):
                    cv2.fillConvexPoly(canvas, leaflet, shadow, cv2.LINE_8, SUBPIXEL_BITS)
                for leaflet in trefoil:
                    cv2.fillConvexPoly(canvas, leaflet, tint.tolist(), cv2.LINE_8, SUBPIXEL_BITS)
                cv2.polylines(canvas, list(veins), False, vein, 1, cv2.LINE_8, SUBPIXEL_BITS)

        yield depth, draw


def _leaflet(turns: Array) -> Array:
    """Outlines (..., 12, 2) of leaflets of unit radius that start at the origin, one along each angle (...)."""
    angle = np.arange(12) * (2 * np.pi / 12)
    along, across = 1.05 + np.cos(angle), (0.85 + 0.15 * np.cos(angle)) * np.sin(angle)
    cos, sin = np.cos(turns)[..., None], np.sin(turns)[..., None]
    return np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1)


def _curves(rng: Generator, count: int, length: float, bend: float, scale: float, canvas: Image) -> Points:
    """`count` bent lines (count, 6, 2) that start in tussocks; `bend` is the spread of their turn in radians."""
    start = _scatter(rng, count, 14, 45 * scale, canvas)
    heading = rng.uniform(0, 2 * np.pi, size=count)[:, None] + rng.normal(0, bend, size=count)[:, None] * np.arange(5)
    step = (length * scale / 5 * rng.uniform(0.4, 1.4, size=count))[:, None]
    moves = np.stack([step * np.cos(heading), step * np.sin(heading)], axis=-1)
    # Centred on the root, so that long lines too keep most of their length within the frame.
    path = np.concatenate([np.zeros((count, 1, 2)), moves.cumsum(axis=1)], axis=1)
    return _fixed(start[:, None] + path - path.mean(axis=1, keepdims=True))


def _scatter(rng: Generator, count: int, per_cluster: int, spread: float, canvas: Image) -> Array:
    """Positions (count, 2) in pixels, in clusters of about `per_cluster`; wrapped, so that no gram leaves the frame."""
    frame = np.array([canvas.shape[1], canvas.shape[0]])
    hearts = rng.uniform(0, frame, size=(count // per_cluster + 1, 2))
    position = hearts[rng.integers(len(hearts), size=count)] + rng.normal(0, spread, size=(count, 2))
    return np.asarray(np.mod(position, frame), dtype=np.float64)


def _fixed(points: Array) -> Points:
    """Pixels as the fixed-point integers that OpenCV draws at sub-pixel positions."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _tint(rng: Generator, colour: tuple[float, float, float], depth: float) -> Array:
    """`colour` varied, and darker the deeper it lies in the sward."""
    shade = (0.6 + 0.5 * depth) * rng.uniform(0.85, 1.15)
    return np.clip(np.array(colour) * shade * rng.uniform(0.94, 1.06, size=3), 0, 255)


def _photograph(rng: Generator, canvas: Image, light: Light) -> Image:
    """`canvas` in the light of its date, a little out of focus, with uneven shade and sensor noise."""
    height, width = canvas.shape[:2]
    gains = light.gain * np.array([1 - light.warmth, 1.0, 1 + light.warmth])
    curve = 255 * (np.arange(256)[:, None] / 255) ** light.gamma * gains
    lit = cv2.LUT(canvas, np.clip(curve, 0, 255).astype(np.uint8)[None])
    soft = cv2.GaussianBlur(lit, (3, 3), 0).astype(np.float32)
    soft *= (1 + 0.05 * _noise(rng, width, height, max(width // 4, 1)))[..., None]
    soft += 4 * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(soft, 0, 255).astype(np.uint8)
