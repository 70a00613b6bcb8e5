"""A table of recipes whose curves and predictions are formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forage.replay.table import Entry, Split, Table, Trained
from pasture.metric import weighted_r2
from pasture.targets import WEIGHTS, from_components
from search_spaces.space import Space

EPOCHS = 9
SPACE: dict[str, Any] = {
    "base": {
        "view": {"kind": "whole", "size": 32},
        "backbone": {"name": "resnet18", "weights": "none"},
        "head": {"hidden": [8]},
        "validation": {"folds": 2},
        "schedule": {"epochs": EPOCHS},
    },
    "search": {
        "backbone": {
            "choice": {
                "small": {"name": "resnet18", "weights": "none"},
                "large": {"name": "resnet34", "weights": "none"},
            }
        },
        "head.dropout": {"uniform": [0.0, 0.5]},
        "optimizer.head_lr": {"log_uniform": [1e-4, 1e-1]},
        "loss.lds.enabled": {"choice": [False, True]},
        "loss.lds.sigma": {"choice": [1.0, 2.0], "when": {"loss.lds.enabled": True}},
    },
    "start": [{"backbone": "small"}, {"backbone": "large", "head.dropout": 0.2}],
}


class _Draw:
    """Draws at random, as a sampler would."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[self.generator.integers(len(choices))]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(math.exp(self.generator.uniform(math.log(low), math.log(high))))
        return float(self.generator.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.generator.integers(low, high + 1))


def _noise(entry: Entry) -> float:
    """Higher for poor recipes."""
    recipe = entry.recipe
    off = abs(math.log10(recipe["optimizer"]["head_lr"]) + 2.3) + recipe["head"]["dropout"]
    return 6.0 + 8.0 * off


@pytest.fixture
def make_table() -> Callable[..., Table]:
    """`make_table(recipes=40, splits=2, seed=0)`: start recipes and random ones; a good recipe is near
    head_lr=.005 and dropout=0, and curves cross."""

    def make(recipes: int = 40, splits: int = 2, seed: int = 0) -> Table:
        space, generator = Space.parse(SPACE), np.random.default_rng(seed)
        entries = [Entry(labels, recipe.to_dict(), True) for labels, recipe in space.starts()]
        while len(entries) < recipes:
            labels, recipe = space.draw(_Draw(generator))
            entries.append(Entry(labels, recipe.to_dict(), False))
        return Table(space, entries, [_split(entries, number, generator) for number in range(splits)])

    return make


def _split(entries: list[Entry], number: int, generator: np.random.Generator) -> Split:
    truth, outer = (from_components(generator.gamma(2, 15, (n, 3))) for n in (30, 12))
    dates = np.array([f"2015-0{1 + number}-{1 + i % 6:02d}" for i in range(30)])
    trained: list[Trained | None] = []
    for entry in entries:
        oof = truth + generator.normal(0, _noise(entry), truth.shape)
        epochs = [oof + generator.normal(0, 20.0 / epoch, truth.shape) for epoch in range(1, EPOCHS)] + [oof]
        loss = [(epoch - truth) ** 2 @ WEIGHTS for epoch in epochs]
        trained.append(
            Trained(
                scores=np.array([weighted_r2(truth, epoch) for epoch in epochs]),
                seconds=np.full(EPOCHS, 1.0 + entry.recipe["head"]["dropout"]),
                date_losses=np.array([[of[dates == date].sum() for date in sorted(set(dates))] for of in loss]),
                oof=oof,
                outer=outer + generator.normal(0, _noise(entry), outer.shape),
            )
        )
    return Split(truth, dates, outer, trained)
