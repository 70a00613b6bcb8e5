"""The truth of synthetic paddocks: dates, species, light and grams, drawn before any pixel. The kind `demo`."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.random import Generator, SeedSequence

from pasture.targets import Array, from_components

STATES: Final = ("Tas", "Vic", "NSW", "WA")
YEAR_START: Final = datetime.date(2015, 1, 1)
DRY_RANGE: Final = (1.5, 130.0)
"""Least and greatest total of a picture, in grams, about those of the real data."""


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
class Look:
    """How the plants of one sampling date appear, beyond their grams. The defaults are those of the kind `demo`.

    Attributes:
        visible: plants drawn for a gram, relative to the usual number.
        crowding: plants drawn grow with grams to this power; below 1, a tall sward hides part of its mass.
        zoom: size of the plants in pixels, relative to the usual one: the height of the camera.
        tint: factors of the blue, green and red of living plants.
        straw: colour (BGR) of dead plants.
        litter: straw that lies on the soil and is not weighed, in grams.
        shade: spread of the uneven light over a picture, relative to its mean.
        blur: standard deviation in pixels of a blur on top of the usual one.
    """

    visible: float = 1.0
    crowding: float = 1.0
    zoom: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    straw: tuple[float, float, float] = (135.0, 180.0, 205.0)
    litter: float = 0.0
    shade: float = 0.05
    blur: float = 0.0


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
    look: Look = Look()


@dataclass(frozen=True)
class Plot:
    """One picture's truth; green, dead and clover in grams.

    `entropy` seeds its drawing and nothing else; `visible` multiplies the plants drawn for a gram.
    """

    image_id: str
    visit: Visit
    species: Species
    green: float
    dead: float
    clover: float
    ndvi: float
    height_cm: float
    entropy: SeedSequence
    visible: float = 1.0

    def targets(self) -> Array:
        """The five targets (5,) in grams, to 4 decimals, in mass balance."""
        return np.round(from_components(np.array([self.green, self.dead, self.clover])), 4)


def draw_truth(images: int, test_images: int, root: SeedSequence) -> tuple[list[Plot], list[Plot]]:
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
