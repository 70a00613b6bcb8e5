"""One small synthetic data folder, one cache, and small recipes over it, for all tests of trainables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pasture.dataset import read_train
from pasture.synthetic import make_data
from pasture.verification import VerifiedDataset, verify
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to the user's cache, and nothing is taken from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are fastest on one thread, however many processes share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 labelled photographs of 200 x 100 pixels on 6 dates."""
    out = tmp_path_factory.mktemp("paddocks") / "data"
    make_data(out, images=24, seed=1, width=200, height=100)
    return out


@pytest.fixture(scope="session")
def dataset(data_folder: Path) -> VerifiedDataset:
    """The labelled photographs of `data_folder`."""
    return verify(read_train(data_folder))


@pytest.fixture(scope="session")
def cpu() -> torch.device:
    """The device on which results are bit for bit the same."""
    return torch.device("cpu")


@pytest.fixture(scope="session")
def frozen_recipe() -> Recipe:
    """A small head on features of a tiny frozen network: an epoch takes milliseconds."""
    return Recipe().with_overrides(
        {
            "view.size": 32,
            "backbone.name": "test_efficientnet",
            "backbone.weights": "none",
            "head.hidden": [16],
            "optimizer.head_lr": 0.01,
            "schedule": {"epochs": 6, "batch_size": 8},
            "validation.folds": 3,
        }
    )


@pytest.fixture(scope="session")
def tuned_recipe(frozen_recipe: Recipe) -> Recipe:
    """The same with all of the network trained on augmented pictures; rates so high that every tensor moves."""
    return frozen_recipe.with_overrides(
        {
            "backbone.tuning": "full",
            "optimizer.backbone_lr": 0.003,
            "augment.strength": "medium",
            "schedule": {"epochs": 4, "batch_size": 16},
            "validation.folds": 2,
        }
    )


@pytest.fixture(params=["frozen", "tuned"])
def either_recipe(request: pytest.FixtureRequest, frozen_recipe: Recipe, tuned_recipe: Recipe) -> Recipe:
    """Once a frozen and once a tuned recipe."""
    return {"frozen": frozen_recipe, "tuned": tuned_recipe}[request.param]


@pytest.fixture(scope="session")
def make_trial(dataset: VerifiedDataset, cpu: torch.device) -> Callable[..., Trial]:
    """`make_trial(recipe, data=dataset, epochs=0)`: a trial after some epochs."""

    def make(recipe: Recipe, data: VerifiedDataset = dataset, epochs: int = 0) -> Trial:
        trial = Trial("trial", recipe, data, SequentialFolds(recipe, TrialContext(data, cpu)))
        for _ in range(epochs):
            trial.step()
        return trial

    return make
