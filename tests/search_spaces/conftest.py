"""Drawing recipes with real Optuna trials; small backbones for the presets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
import timm
import torch

from search_spaces.parameter import Label
from search_spaces.space import Space
from tests.search_spaces.small_presets import NARROW
from trainables.network import backbone as backbone_module
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


@pytest.fixture(scope="module")
def small_backbones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Narrow backbones, a cache of our own, one thread."""
    create, threads = timm.create_model, torch.get_num_threads()

    def narrow(name: str, **arguments: Any) -> torch.nn.Module:
        return create(name, **NARROW.get(name, {}), **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", narrow)
        patch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        backbone_module._facts.cache_clear()
        yield
        backbone_module._facts.cache_clear()
        torch.set_num_threads(threads)
