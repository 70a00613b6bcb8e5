"""Drawing recipes with real Optuna trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import optuna
import pytest

from search_spaces.parameter import Label
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe

Draws = list[tuple[dict[str, Label], Recipe]]


@pytest.fixture
def draw_many() -> Callable[..., Draws]:
    """`draw_many(space, n, seed=0)`: labels and recipes of n trials that TPE proposes; the score is the dropout's."""

    def draw(space: Space, n: int, seed: int = 0) -> Draws:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
        study = optuna.create_study(sampler=sampler)
        result = []
        for _ in range(n):
            trial = study.ask()
            labels, recipe = space.draw(trial)
            assert labels == trial.params
            study.tell(trial, recipe.head.dropout)
            result.append((labels, recipe))
        return result

    return draw
