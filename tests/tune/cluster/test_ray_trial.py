"""The trainable as Ray drives it, without a Ray cluster: its methods are called as Ray calls them."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch

from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset
from trainables.compute.device_errors import DeviceLostError
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import forage_version
from trainables.trial import artifacts
from trainables.trial.trial import Report, Trial
from tune.cluster import ray_trial
from tune.cluster.ray_trial import RayTrial
from tune.cluster.trial_job import TrialJob

TIMES = ("seconds", "images_per_second")
MakeConfig = Callable[..., dict[str, Any]]
MakeTrial = Callable[..., Trial]


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Ray's own folders elsewhere, and Ray never started."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    ray_trial._dataset.cache_clear()
    yield
    assert not ray.is_initialized()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run directory."""
    return RunFolder(tmp_path / "run")


@pytest.fixture
def make_config(run: RunFolder, data_folder: Path, dataset: VerifiedDataset, frozen_recipe: Recipe) -> MakeConfig:
    """`make_config(trial="t0", reported=0, **fields of the recipe)`: what the driver sends to a trainable."""

    def make(trial: str = "t0", reported: int = 0, **fields: object) -> dict[str, Any]:
        job = TrialJob(
            run=str(run),
            data=str(data_folder),
            fingerprint=dataset.fingerprint,
            forage=forage_version(),
            trial=trial,
            recipe=json.dumps(frozen_recipe.with_overrides(fields).to_dict()),
            resources={"CPU": 1},
            reported=reported,
        )
        return job.to_config()

    return make


def _to_the_end(trainable: RayTrial) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    while not results or not results[-1]["done"]:
        assert len(results) < 50, "it does not end"
        results.append(trainable.train())
    return results


def _curve(results: list[dict[str, Any]]) -> list[Report]:
    return [{k: v for k, v in r["report"] if k not in TIMES} for r in results]


def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Trial) -> Report:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trial, "step", fail)


@pytest.mark.heavy
def test_it_steps_to_the_end(make_config: MakeConfig, run: RunFolder) -> None:
    trainable = RayTrial(config=make_config())
    results = []
    for epoch in range(1, 7):
        results.append(trainable.train())
        assert results[-1]["epoch"] == epoch
        assert results[-1]["finished"] == results[-1]["done"] == (epoch == 6)
        assert run.oof.exists("t0.parquet") == (epoch == 6)
    assert run.read_oof("t0").metadata["curve"] == [dict(r["report"]) for r in results]
    assert run.read_oof("t0").metadata["score"] == results[-1]["score"]
    assert len(run.weights("t0").names(".safetensors")) == 3


def test_the_run_directory_says_how_far_features_are(
    make_config: MakeConfig, run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    written: list[str] = []
    write = Folder.write

    def recorded(self: Folder, name: str, content: bytes) -> None:
        if self.path == run.preparations.path:
            written.append(json.loads(content)["step"])
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", recorded)
    RayTrial(config=make_config()).train()
    assert written == ["features", "decoding", "features"], "the features go on after the pictures that they need"
    assert run.preparations.names() == []
    RayTrial(config=make_config("t1")).train()
    assert len(written) == 3, "features from the cache are no news"


def test_it_is_the_trial_itself(make_config: MakeConfig, make_trial: MakeTrial, frozen_recipe: Recipe) -> None:
    results = _to_the_end(RayTrial(config=make_config()))
    curve = make_trial(frozen_recipe, epochs=6).curve
    assert _curve(results) == [{k: v for k, v in report.items() if k not in TIMES} for report in curve]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"backbone.name": "no_such_network"}, "no_such_network"),
        ({"backbone": {"tuning": "last_blocks", "blocks": 99}}, "backbone.blocks=99"),
        ({"validation.folds": 20}, "20 sampling dates"),
        ({"optimizer.head_lr": 1.0, "target.transform": "none", "loss.kind": "mse"}, None),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_an_error_result(
    make_config: MakeConfig, run: RunFolder, fields: dict[str, Any], named: str | None
) -> None:
    trainable = RayTrial(config=make_config(**fields))
    if named is None:  # a network that has come to grief on the way
        trainable.train()
        assert trainable.trial is not None
        with torch.no_grad():
            for parameter in trainable.trial.executor.learners[1].net.parameters():
                parameter.fill_(float("nan"))
        named = "fold 1, epoch 2: the loss is nan"
    result = trainable.train()
    assert result["done"]
    assert "finished" not in result
    assert named in result["error"]
    assert not run.oof.exists("t0.parquet")


def test_a_bug_is_an_error_result_with_its_place(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_training(monkeypatch)
    result = RayTrial(config=make_config()).train()
    assert result["done"]
    assert result["error"].startswith("AssertionError: trained again (test_ray_trial.py:")
    assert result["traceback"].startswith("Traceback (most recent call last):")
    assert "in fail" in result["traceback"]


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_an_unusable_gpu_ends_the_worker_instead_of_the_trial(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(self: Trial) -> Report:
        raise error

    monkeypatch.setattr(Trial, "step", fail)
    trainable = RayTrial(config=make_config())
    # An exception, other than a result, makes Ray end the process and run the trial in another one.
    with pytest.raises(DeviceLostError, match=r"GPU of this worker cannot be used any more: .*test_ray_trial\.py"):
        trainable.train()


@pytest.mark.parametrize("resources", [{"CPU": 1.0}, {"CPU": 1.0, "GPU": 0.0}, {"CPU": 1.0, "GPU": 0.5}])
def test_the_device_follows_from_the_resources_of_the_trial(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, resources: dict[str, float]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ray_trial, "SequentialFolds", lambda recipe, context: SimpleNamespace(device=context.device))
    trainable = RayTrial(config=make_config() | {"resources": resources})
    executor: Any = trainable._new_trial().executor
    assert executor.device.type == ("cuda" if resources.get("GPU") else "cpu")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of GPU memory with batches of 8"),
        (MemoryError(), "out of memory with batches of 8 and views of 32 pixels: lower schedule.batch_size or"),
    ],
)
def test_out_of_memory_is_an_error_result_that_says_what_to_lower(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(self: Trial) -> Report:
        raise error

    monkeypatch.setattr(Trial, "step", fail)
    result = RayTrial(config=make_config()).train()
    assert result["done"]
    assert message in result["error"]


def test_a_node_of_another_version_is_refused_by_name(make_config: MakeConfig) -> None:
    with pytest.raises(InputError, match=rf"{platform.node()} has forage {forage_version()}, the driver has 99\.1"):
        RayTrial(config=make_config() | {"forage": "99.1"})


def test_a_trial_is_placed_by_what_its_own_recipe_asks_for(make_config: MakeConfig) -> None:
    config = make_config() | {"resources": {"CPU": 2, "GPU": 0.25}}
    assert RayTrial.default_resource_request(config).bundles == [{"CPU": 2, "GPU": 0.25}]


def test_an_unreadable_data_folder_is_an_error_result(make_config: MakeConfig, tmp_path: Path) -> None:
    result = RayTrial(config=make_config() | {"data": str(tmp_path / "gone")}).train()
    assert "no such data folder" in result["error"]


@pytest.mark.heavy
def test_a_warm_process_runs_one_trial_after_another(make_config: MakeConfig, run: RunFolder) -> None:
    second = make_config("t1", **{"seed": 3, "schedule.epochs": 3})
    alone = _curve(_to_the_end(RayTrial(config=make_config("alone", **{"seed": 3, "schedule.epochs": 3}))))
    for epochs in (0, 2, 6):  # reset before it began, under way, and finished
        name = f"first{epochs}"
        trainable = RayTrial(config=make_config(name))
        for _ in range(epochs):
            trainable.train()
        fresh = second | {"trial": f"after{epochs}"}
        assert trainable.reset(fresh)
        assert _curve(_to_the_end(trainable)) == alone
        assert run.oof.exists(f"{name}.parquet") == (epochs == 6)
        assert run.read_oof(f"after{epochs}").metadata["trial"] == f"after{epochs}"


def test_a_warm_process_survives_an_error(make_config: MakeConfig) -> None:
    trainable = RayTrial(config=make_config("bad", **{"backbone.name": "no_such_network"}))
    assert "error" in trainable.train()
    assert trainable.reset(make_config("good"))
    assert _to_the_end(trainable)[-1]["finished"]


def test_checkpoints_are_written_only_when_they_are_worth_it(
    make_config: MakeConfig, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = RayTrial(config=make_config())
    monkeypatch.setattr(ray_trial, "CHECKPOINT_SECONDS", 3600.0)
    trainable.train()
    assert run.checkpoints.names() == []
    monkeypatch.setattr(ray_trial, "CHECKPOINT_SECONDS", 0.0)
    trainable.train()
    assert run.checkpoints.names() == ["t0.pt"]
    _to_the_end(trainable)
    assert run.checkpoints.names() == []


@pytest.mark.heavy
@pytest.mark.parametrize("reported", [0, 1, 3, 4])
def test_a_checkpoint_is_taken_up_and_what_was_not_heard_is_told_again(
    make_config: MakeConfig, run: RunFolder, monkeypatch: pytest.MonkeyPatch, reported: int
) -> None:
    undisturbed = _curve(_to_the_end(RayTrial(config=make_config("undisturbed"))))
    monkeypatch.setattr(ray_trial, "CHECKPOINT_SECONDS", 0.0)
    killed = RayTrial(config=make_config())
    for _ in range(3):
        killed.train()
    del killed
    trained: list[int] = []
    step = Trial.step
    monkeypatch.setattr(Trial, "step", lambda self: (trained.append(len(self.curve) + 1), step(self))[1])
    results = _to_the_end(RayTrial(config=make_config(reported=reported)))
    # Of four heard epochs the checkpoint has three: the fourth is trained and told once more.
    assert trained == [4, 5, 6]
    assert _curve(results) == undisturbed[min(reported, 3) :]
    assert np.array_equal(run.read_oof("t0").predictions, run.read_oof("undisturbed").predictions)


def test_a_trial_at_the_cut_has_its_checkpoint_before_it_says_so(
    make_config: MakeConfig, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = _curve(_to_the_end(RayTrial(config=make_config("undisturbed"))))
    monkeypatch.setattr(ray_trial, "CHECKPOINT_SECONDS", 3600.0)
    config = {**make_config(), "cut": 2}
    waits = RayTrial(config=config)
    waits.train()
    assert run.checkpoints.names() == []
    waits.train()
    assert run.checkpoints.names() == ["t0.pt"]
    assert waits.reset_config({**make_config("other"), "cut": 2})  # the worker goes on with another trial
    results = _to_the_end(RayTrial(config={**config, "reported": 2}))
    assert _curve(results) == undisturbed[2:]
    assert np.array_equal(run.read_oof("t0").predictions, run.read_oof("undisturbed").predictions)


def test_a_trial_that_ends_at_the_cut_is_finished(make_config: MakeConfig, run: RunFolder) -> None:
    results = _to_the_end(RayTrial(config={**make_config(**{"schedule.epochs": 2}), "cut": 2}))
    assert [r["finished"] for r in results] == [False, True]
    assert run.checkpoints.names() == []


def test_a_damaged_checkpoint_stops_the_sweep_until_it_is_deleted(make_config: MakeConfig, run: RunFolder) -> None:
    run.checkpoints.write("t0.pt", b"half a checkpo")
    result = RayTrial(config=make_config()).train()
    assert re.search(r"checkpoint of t0 is damaged .*; delete .*/checkpoints/t0\.pt and", result["error"])
    assert (result["stop"], result["done"]) == (True, True)


@pytest.mark.heavy
@pytest.mark.parametrize("folder", ["checkpoints", "oof", "cache"])
def test_what_cannot_be_written_stops_the_sweep(
    make_config: MakeConfig, run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    undisturbed = _curve(_to_the_end(RayTrial(config=make_config("undisturbed"))))
    monkeypatch.setattr(ray_trial, "CHECKPOINT_SECONDS", 0.0)
    obstacle = tmp_path / "run" / folder
    if folder == "cache":
        obstacle = tmp_path / "no-folder"
        monkeypatch.setenv("FORAGE_CACHE", str(obstacle))
    elif obstacle.exists():
        obstacle.rename(obstacle.with_name("aside"))
    obstacle.touch()
    results = _to_the_end(RayTrial(config=make_config()))
    assert results[-1]["stop"]
    assert results[-1]["error"].startswith("cannot write")
    obstacle.unlink()
    heard = len(results) - 1
    assert _curve(results[:-1]) + _curve(_to_the_end(RayTrial(config=make_config(reported=heard)))) == undisturbed


@pytest.mark.parametrize("reported", [0, 4, 6])
def test_a_finished_trial_is_told_again_without_training(
    make_config: MakeConfig, run: RunFolder, monkeypatch: pytest.MonkeyPatch, reported: int
) -> None:
    reports = [r["report"] for r in _to_the_end(RayTrial(config=make_config()))]
    files = sorted(p for p in Path(str(run)).rglob("*") if p.is_file())
    before = [p.stat().st_mtime_ns for p in files]
    _no_training(monkeypatch)
    results = _to_the_end(RayTrial(config=make_config(reported=reported)))
    # The last epoch is told even where all are known: the driver waits for `finished`.
    assert [r["report"] for r in results] == reports[min(reported, 5) :]
    assert [r["finished"] for r in results] == [False] * (len(results) - 1) + [True]
    assert [p.stat().st_mtime_ns for p in files] == before


@pytest.mark.heavy
def test_a_damaged_result_is_trained_again(make_config: MakeConfig, run: RunFolder) -> None:
    first = _to_the_end(RayTrial(config=make_config()))
    path = Path(run.oof.file("t0.parquet"))
    whole = run.read_oof("t0").predictions
    path.write_bytes(path.read_bytes()[:100])
    assert _curve(_to_the_end(RayTrial(config=make_config()))) == _curve(first)
    assert np.array_equal(run.read_oof("t0").predictions, whole)


@pytest.mark.heavy
def test_another_recipe_under_the_same_name_is_trained(make_config: MakeConfig, run: RunFolder) -> None:
    _to_the_end(RayTrial(config=make_config()))
    _to_the_end(RayTrial(config=make_config(seed=4)))
    assert run.read_oof("t0").metadata["recipe"]["seed"] == 4
    recipe = Recipe.parse(json.loads(make_config(seed=4)["recipe"]))
    assert artifacts.read_finished(run, "t0", recipe, make_config()["fingerprint"]) is not None


def test_outer_dates_are_held_out_and_predicted_and_a_finished_trial_is_recognised(
    make_config: MakeConfig, run: RunFolder, dataset: VerifiedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config() | {"outer": (dataset.dates[0],)}
    results = _to_the_end(RayTrial(config=config))
    assert "error" not in results[-1]
    outer = set(OofTable.read(run.outer, "t0.parquet").image_ids)
    assert outer == {i for i, date in zip(dataset.ids, dataset.dates, strict=True) if date == dataset.dates[0]}
    assert outer.isdisjoint(run.read_oof("t0").image_ids)
    _no_training(monkeypatch)
    assert _to_the_end(RayTrial(config=config))[-1]["finished"]
    with pytest.raises(AssertionError, match="trained again"):  # other outer dates are another trial
        RayTrial(config=make_config())._advance()
