"""The truth of synthetic paddocks that are as hard as the competition's photographs. The kind `real`.

Levels, zeros and spread follow the competition's training data: four states with species and seasons of their own,
28 dates with one to some thirty photographs each, most of the variance between dates, and long tails. What makes the
weights hard to see is drawn for each date too: how many plants show for a gram, how far the camera is away, colours,
light and litter. A model that has not seen a date cannot know these, so that some dates decide its score.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.random import Generator, SeedSequence

from pasture.synthetic.truth import YEAR_START, Light, Look, Plot, Species, Visit
from pasture.targets import Array

DRY_RANGE: Final = (1.0, 185.0)
"""Least and greatest total of a picture, in grams."""


@dataclass(frozen=True)
class Region:
    """Where and when a state is sampled, and what grows there.

    Attributes:
        months: first and last month.
        species: pairs of species and how often each is met.
        living: median grams of living plants, and the spread of its logarithm between dates.
        dead: the same of dead plants; (0, 0) for none.
        photographs: on a date, relative to other states.
    """

    state: str
    months: tuple[int, int]
    species: tuple[tuple[Species, float], ...]
    living: tuple[float, float]
    dead: tuple[float, float]
    photographs: float = 1.0


_RYEGRASS: Final = Species("Ryegrass", 0.0, 170, 5, (55, 145, 110), 0.1)
_MIXED: Final = Species("Ryegrass_Clover", 0.3, 170, 5, (55, 145, 110), 0.1)
_PHALARIS: Final = Species("Phalaris_Clover", 0.25, 230, 8, (75, 150, 115), 0.12)

REGIONS: Final = {
    "Tas": Region(
        "Tas",
        (5, 11),
        (
            (_MIXED, 0.5),
            (_RYEGRASS, 0.2),
            (Species("Clover", 0.75, 150, 5, (55, 145, 110), 0.1), 0.2),
            (Species("WhiteClover", 0.8, 150, 5, (55, 145, 110), 0.1), 0.1),
        ),
        (15.0, 0.5),
        (13.0, 0.5),
    ),
    "Vic": Region("Vic", (6, 10), ((_PHALARIS, 0.6), (_MIXED, 0.3), (_RYEGRASS, 0.1)), (34.0, 0.5), (7.0, 0.6)),
    "NSW": Region(
        "NSW",
        (1, 5),
        (
            (Species("Lucerne", 0.0, 120, 10, (70, 140, 95), 0.5), 0.4),
            (Species("Fescue", 0.0, 200, 5, (65, 140, 120), 0.3), 0.4),
            (Species("Phalaris", 0.0, 240, 8, (75, 150, 115), 0.35), 0.2),
        ),
        (56.0, 0.3),
        (7.0, 0.9),
    ),
    "WA": Region(
        "WA",
        (7, 9),
        (
            (Species("Clover", 0.97, 150, 5, (55, 145, 110), 0.06), 0.7),
            (Species("SubcloverDalkeith", 1.0, 150, 5, (55, 145, 110), 0.06), 0.3),
        ),
        (15.0, 0.5),
        (0.0, 0.0),
        0.5,
    ),
}
VISIBLE_SPREAD: Final = 0.25
"""Spread between dates of the logarithm of the plants that show for a gram: sets how hard the data are."""

ROTA: Final = ("Tas", "Vic", "NSW", "Tas", "Vic", "WA", "Tas", "NSW", "Vic", "Tas")
"""States of the dates, in turn: 28 dates are 12 of Tasmania, 8 of Victoria, 6 of New South Wales, 2 of the West."""


def draw_real_truth(images: int, test_images: int, root: SeedSequence) -> tuple[list[Plot], list[Plot]]:
    """Training and test plots, each sorted by image id, from disjoint dates."""
    truth_seed, *entropies = root.spawn(1 + images + test_images)
    rng = np.random.default_rng(truth_seed)
    ids = iter((10**9 + rng.choice(9 * 10**9, size=images + test_images, replace=False)).tolist())
    days: set[int] = set()
    parts: list[list[Plot]] = []
    seeds = iter(entropies)
    for count in (images, test_images):
        visits = [_draw_visit(rng, REGIONS[ROTA[i % len(ROTA)]], days) for i in range(_date_count(count))]
        dealt = [visit for visit, size in zip(visits, _sizes(rng, count, visits), strict=True) for _ in range(size)]
        plots = [_draw_plot(rng, f"ID{next(ids)}", visit, next(seeds)) for visit in dealt]
        parts.append(sorted(plots, key=attrgetter("image_id")))
    return parts[0], parts[1]


def _date_count(images: int) -> int:
    return max(1, min(28, images // 2, max(6, images // 4)))


def _sizes(rng: Generator, images: int, visits: list[Visit]) -> list[int]:
    """Photographs of each date: at least one, some many times more."""
    usual = np.array([REGIONS[visit.state].photographs for visit in visits])
    share = usual * rng.lognormal(0.0, 0.55, size=len(visits))
    return [1 + int(more) for more in rng.multinomial(images - len(visits), share / share.sum())]


def _draw_visit(rng: Generator, region: Region, days: set[int]) -> Visit:
    first, last = (datetime.date(YEAR_START.year, month, 1) for month in region.months)
    span = (last - first).days + 28
    day = next(d for d in ((first - YEAR_START).days + rng.permutation(span)).tolist() if d not in days)
    days.add(day)
    date = YEAR_START + datetime.timedelta(days=day)
    weights = np.array([weight for _, weight in region.species])
    picks = rng.choice(len(weights), size=min(2, len(weights)), replace=False, p=weights / weights.sum())
    # Pastures grow in spring (from September) and dry out in summer.
    spring = np.exp(-(((date.timetuple().tm_yday - 285 + 182) % 365 - 182) ** 2) / (2 * 50**2))
    soil = np.array([62.0, 82.0, 104.0]) * rng.uniform(0.6, 1.35) * rng.uniform(0.9, 1.1, size=3)
    return Visit(
        date=f"{date.year}/{date.month}/{date.day}",
        state=region.state,
        species=tuple(region.species[i][0] for i in picks),
        light=Light(gain=rng.uniform(0.78, 1.22), warmth=rng.uniform(-0.08, 0.08), gamma=rng.uniform(0.85, 1.3)),
        soil=(float(soil[0]), float(soil[1]), float(soil[2])),
        living=_level(rng, region.living) * (0.85 + 0.5 * spring),
        dead=_level(rng, region.dead),
        look=_draw_look(rng),
    )


def _level(rng: Generator, level: tuple[float, float]) -> float:
    median, spread = level
    return float(median * np.exp(rng.normal(0.0, spread)))


def _draw_look(rng: Generator) -> Look:
    crowding = 0.85
    straw = np.array([135.0, 180.0, 205.0]) * rng.uniform(0.7, 1.1) * rng.uniform(0.85, 1.15, size=3)
    tint = rng.uniform(0.85, 1.12) * rng.uniform(0.9, 1.1, size=3)
    return Look(
        # At 20 g as many plants as without crowding.
        visible=float(20 ** (1 - crowding) * np.exp(rng.normal(0.0, VISIBLE_SPREAD))),
        crowding=crowding,
        zoom=float(np.exp(rng.normal(0.0, 0.12))),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        straw=(float(straw[0]), float(straw[1]), float(straw[2])),
        litter=float(rng.exponential(5.0)),
        shade=float(rng.uniform(0.05, 0.2)),
        blur=float(rng.uniform(0.0, 1.5)),
    )


def _draw_plot(rng: Generator, image_id: str, visit: Visit, entropy: SeedSequence) -> Plot:
    species = visit.species[int(rng.random() < 0.25) % len(visit.species)]
    living = visit.living * np.exp(rng.normal(0.0, 0.33))
    dead = visit.dead * np.exp(rng.normal(0.0, 0.45)) * (rng.random() > 0.03)
    has_clover = species.clover > 0 and rng.random() < 0.5 + species.clover / 2
    share = species.clover if species.clover in (0.0, 1.0) else rng.beta(4 * species.clover, 4 * (1 - species.clover))
    clover = share * has_clover
    grams = np.array([living * (1 - clover), dead, living * clover])
    grams = np.round(grams * np.clip(grams.sum(), *DRY_RANGE) / grams.sum(), 4)
    green, dead, clover = grams.tolist()
    ndvi, height_cm = _measure(rng, species, grams)
    return Plot(
        image_id, visit, species, green, dead, clover, ndvi, height_cm, entropy, float(np.exp(rng.normal(0.0, 0.1)))
    )


def _measure(rng: Generator, species: Species, grams: Array) -> tuple[float, float]:
    """NDVI and height in cm, as they would be measured on a plot."""
    green, dead, clover = grams.tolist()
    ndvi = 0.35 + 0.5 * (1 - np.exp(-(green + clover) / 20)) - 0.003 * dead + rng.normal(0, 0.1)
    height_cm = (1 + species.stature * (green + clover + 0.3 * dead)) * np.exp(rng.normal(0, 0.4))
    return round(float(np.clip(ndvi, 0.1, 0.95)), 2), round(float(height_cm), 4)
