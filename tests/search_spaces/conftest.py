"""Drawing recipes with real Optuna trials."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest

from search_spaces.parameter import Label
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe

Draws = list[tuple[dict[str, Label], Recipe]]


@pytest.fixture
def draw_many() -> Callable[..., Draws]:
    """`draw_many(space, n, seed=0)`: labels and recipes of n trials of random search."""

    def draw(space: Space, n: int, seed: int = 0) -> Draws:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        result = []
        for _ in range(n):
            trial = study.ask()
            labels, recipe = space.draw(trial)
            assert labels == trial.params
            study.tell(trial, 0.0)
            result.append((labels, recipe))
        return result

    return draw
