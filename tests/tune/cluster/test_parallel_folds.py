"""Folds side by side on two logical GPUs, in real processes. Slow: a session of Ray.

The devices are CPUs, on which side by side and one after another must be the same bit for bit.
"""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import ray
import ray.exceptions
import ray.tune
import torch
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from safetensors.torch import load

from pasture.errors import JobError
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset
from trainables.compute.device_errors import DeviceLostError
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import forage_version
from trainables.trial import artifacts
from tune.cluster.parallel_folds import FoldWorker, ParallelFolds, WorkerLostError, bundles
from tune.cluster.ray_trial import RayTrial
from tune.cluster.trial_job import TrialJob

TIMES = ("seconds", "images_per_second")
TWO = {"CPU": 1.0, "GPU": 2.0}
"""What a trial on both GPUs asks for."""
MakeConfig = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("resources", "parts"),
    [
        ({"CPU": 3.0}, [{"CPU": 3}]),
        ({"CPU": 1.0, "GPU": 0.25}, [{"CPU": 1, "GPU": 0.25}]),
        ({"CPU": 4.0, "GPU": 1.0}, [{"CPU": 4, "GPU": 1}]),
        ({"CPU": 4.0, "GPU": 2.0}, [{"CPU": 2, "GPU": 1}] * 2),
        ({"GPU": 2.0}, [{"GPU": 1}] * 2),
        ({"CPU": 2.0, "GPU": 3.0}, [{"CPU": 0.6666, "GPU": 1}] * 3),  # .6667 three times were more than there is
    ],
)
def test_a_gpu_is_asked_for_with_its_share_of_the_cpus(resources: dict[str, float], parts: list[Any]) -> None:
    assert bundles(resources) == parts
    asked = RayTrial.default_resource_request({"resources": resources})
    assert asked.bundles == parts
    assert asked.head_bundle_is_empty == (len(parts) > 1)


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """Ray with GPUs that are none: two for `warm` and two for a trial beside it."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")}
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    ray.init(address="local", num_cpus=2, num_gpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def trainable(config: dict[str, Any]) -> Iterator[Any]:
    """A `RayTrial` placed as Ray Tune places it."""
    group = placement_group(bundles(config["resources"]), strategy="PACK")
    there = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
    actor = ray.remote(RayTrial).options(num_cpus=0, scheduling_strategy=there).remote(config=config)
    yield actor
    ray.kill(actor)
    remove_placement_group(group)


@pytest.fixture(scope="module")
def warm(session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """`warm(config)`: the one trainable of all tests, begun with another trial."""
    first = TrialJob("nowhere", "nowhere", "none", forage_version(), "first", "{}", TWO)
    with trainable(first.to_config()) as actor:

        def begin(config: dict[str, Any]) -> Any:
            assert ray.get(actor.reset.remote(config))
            return actor

        yield begin


@pytest.fixture
def make_config(tmp_path: Path, data_folder: Path, dataset: VerifiedDataset) -> MakeConfig:
    """`make_config(name, recipe, resources={"CPU": 1})`: what the driver sends to a trainable."""

    def make(name: str, recipe: Recipe, resources: dict[str, float] | None = None) -> dict[str, Any]:
        job = TrialJob(
            run=str(tmp_path / "run"),
            data=str(data_folder),
            fingerprint=dataset.fingerprint,
            forage=forage_version(),
            trial=name,
            recipe=json.dumps(recipe.to_dict()),
            resources=resources or {"CPU": 1.0},
        )
        return job.to_config()

    return make


def _pids(actor: Any) -> list[int]:
    """Of a trainable's fold workers."""

    def ask(self: RayTrial) -> list[int]:
        assert self.workers is not None
        return ray.get([worker.__ray_call__.remote(lambda _: os.getpid()) for worker in self.workers.actors])

    found: list[int] = ray.get(actor.__ray_call__.remote(ask))
    return found


def _gone(pids: list[int]) -> bool:
    """Whether processes end within some seconds."""
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _steps(actor: Any, count: int = 50) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    while len(results) < count and not (results and results[-1]["done"]):
        results.append(ray.get(actor.train.remote()))
    return results


def _alone(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The same trial in this process, one fold after another."""
    here = RayTrial(config=config)
    results: list[dict[str, Any]] = []
    while not (results and results[-1]["done"]):
        results.append(here.train())
    return results


def _left(config: dict[str, Any]) -> tuple[Any, ...]:
    """What a trial has left in its run directory, but for the time it took."""
    run = RunFolder(config["run"])
    table, weights = run.read_oof(config["trial"]), run.weights(config["trial"])
    metadata = {**table.metadata, "trial": "", "curve": [_timeless(report) for report in table.metadata["curve"]]}
    epochs = run.read_epochs(config["trial"])
    assert epochs is not None
    files = {name: load(weights.read(name)) for name in weights.names(".safetensors")}
    bits = {name: {part: t.numpy().tobytes() for part, t in content.items()} for name, content in files.items()}
    outer = OofTable.read(run.outer, f"{config['trial']}.parquet").predictions if config.get("outer") else np.empty(0)
    return metadata, table.image_ids, table.predictions.tobytes(), outer.tobytes(), epochs.tobytes(), bits


def _timeless(report: Any) -> dict[str, Any]:
    return {name: value for name, value in dict(report).items() if name not in TIMES}


def _recipe(kind: str, frozen: Recipe, tuned: Recipe) -> Recipe:
    if kind == "tuned":  # an average of weights, stages, and more folds than workers
        stages = [{"share": 0.5, "tuning": "frozen"}, {"share": 0.5, "tuning": "full"}]
        changes = {"validation.folds": 3, "optimizer.ema": 0.9, "schedule": {"stages": stages}}
        return tuned.with_overrides(changes | {"optimizer.clip_grad": 1.0})
    if kind == "ridge":
        return frozen.with_overrides({"head.kind": "ridge"})
    schedule = {"early_stopping": 2, "epochs": 12, "choose": "best"}
    return frozen.with_overrides({"optimizer.head_lr": 0.2, "backbone.standardize": False, "schedule": schedule})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frozen", "tuned", "ridge"])
def test_side_by_side_is_one_after_another_bit_for_bit(
    warm: Callable[[dict[str, Any]], Any],
    make_config: MakeConfig,
    frozen_recipe: Recipe,
    tuned_recipe: Recipe,
    dataset: VerifiedDataset,
    kind: str,
) -> None:
    recipe = _recipe(kind, frozen_recipe, tuned_recipe)
    outer = {"outer": (dataset.dates[0],)} if kind == "tuned" else {}
    actor = warm(make_config("apart", recipe, TWO) | outer)
    told = _steps(actor)
    assert "error" not in told[-1]
    alone = make_config("alone", recipe) | outer
    assert [_timeless(r["report"]) for r in told] == [_timeless(r["report"]) for r in _alone(alone)]
    assert _left(make_config("apart", recipe) | outer) == _left(alone)
    if kind == "frozen":
        scores = [dict(r["report"])["epoch_score"] for r in told]
        assert int(np.argmax(scores)) < len(scores) - 1 < 11, "the best epoch is not the last, or the test shows little"


@pytest.mark.slow
def test_each_worker_has_a_gpu_and_stays_warm_from_trial_to_trial(
    warm: Callable[[dict[str, Any]], Any], make_config: MakeConfig, frozen_recipe: Recipe
) -> None:
    actor = warm(make_config("first", frozen_recipe, TWO))
    _steps(actor, 1)

    def ask(self: RayTrial) -> list[Any]:
        assert self.workers is not None
        look = lambda worker: (ray.get_gpu_ids(), sorted(worker.folds.learners))  # noqa: E731
        return ray.get([worker.__ray_call__.remote(look) for worker in self.workers.actors])

    (first_gpu, first_folds), (second_gpu, second_folds) = ray.get(actor.__ray_call__.remote(ask))
    assert len(first_gpu) == len(second_gpu) == 1
    assert first_gpu != second_gpu
    assert (first_folds, second_folds) == ([0, 2], [1])
    before = _pids(actor)
    _steps(warm(make_config("second", frozen_recipe, TWO)), 1)
    assert _pids(actor) == before


@pytest.mark.slow
def test_a_checkpoint_does_not_know_who_took_it(
    warm: Callable[[dict[str, Any]], Any], make_config: MakeConfig, frozen_recipe: Recipe, tuned_recipe: Recipe
) -> None:
    recipe = _recipe("tuned", frozen_recipe, tuned_recipe)
    whole = make_config("whole", recipe)
    _alone(whole)

    def save(self: RayTrial) -> None:
        assert self.trial is not None
        artifacts.write_checkpoint(self.run, self.trial)

    actor = warm(make_config("apart", recipe, TWO))
    _steps(actor, 2)
    ray.get(actor.__ray_call__.remote(save))
    onward = make_config("apart", recipe)
    assert len(_alone(onward | {"reported": 2})) == 2
    assert _left(onward) == _left(whole)

    here = RayTrial(config=make_config("here", recipe))
    for _ in range(2):
        here.train()
    save(here)
    assert len(_steps(warm(make_config("here", recipe, TWO) | {"reported": 2}))) == 2
    assert _left(make_config("here", recipe)) == _left(whole)


@pytest.mark.slow
def test_an_error_in_a_worker_is_one_line_and_the_next_trial_runs(
    warm: Callable[[dict[str, Any]], Any], make_config: MakeConfig, frozen_recipe: Recipe
) -> None:
    def spoil(self: RayTrial, error: str) -> None:
        def fail(*_: Any) -> None:
            raise {"value": ValueError, "memory": MemoryError}[error]("no way")

        assert self.workers is not None
        ray.get(self.workers.actors[1].__ray_call__.remote(lambda worker: setattr(worker.folds, "train", fail)))

    actor = warm(make_config("bad", frozen_recipe, TWO))
    for error, said in (
        ("value", r"ValueError: no way (test_parallel_folds.py:"),
        ("memory", "out of memory with batches"),
    ):
        _steps(warm(make_config("bad", frozen_recipe, TWO)), 1)
        ray.get(actor.__ray_call__.remote(spoil, error))
        (result,) = _steps(actor, 1)
        assert result["done"]
        assert result["error"].startswith(said)
    (result,) = _steps(warm(make_config("bad", frozen_recipe.with_overrides({"validation.folds": 20}), TWO)), 1)
    assert "20 sampling dates" in result["error"]
    assert _steps(warm(make_config("good", frozen_recipe, TWO)))[-1]["finished"]


def test_a_gpu_lost_by_a_fold_worker_ends_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLostError, match=r"illegal memory access .*test_parallel_folds\.py") as lost:
        FoldWorker().begin(build)
    folds = ParallelFolds([{"GPU": 1.0}] * 2)
    folds.actors = [MagicMock(), MagicMock()]
    actors, ended = folds.actors, []

    def get(_: Any) -> None:
        raise ray.exceptions.RayTaskError("call", "Traceback of the worker", lost.value)

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "kill", ended.append)
    with pytest.raises(WorkerLostError, match="cannot be used any more"):
        folds.keep()
    assert ended == actors


def test_the_traceback_of_a_fold_worker_reaches_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(_: Any) -> None:
        raise ray.exceptions.RayTaskError("call", "Traceback of the worker", JobError("ValueError: no way"))

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(JobError, match="no way") as error:
        ParallelFolds([{"GPU": 1.0}] * 2).keep()
    assert "Traceback of the worker" in "".join(traceback.format_exception(error.value))


@pytest.mark.slow
def test_a_trial_that_lost_its_gpu_goes_on_in_another_process(
    session: None, make_config: MakeConfig, frozen_recipe: Recipe, tmp_path: Path
) -> None:
    """Under Ray Tune itself; the error of CUDA is raised by the test."""
    whole, config = make_config("whole", frozen_recipe), make_config("lost", frozen_recipe)
    _alone(whole)
    pids: list[int] = []

    class Break(ray.tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            actor = trial.temporary_state.ray_actor
            if result["epoch"] in (3, 5):
                pids.append(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))
            if result["epoch"] == 3 and len(pids) == 1:

                def spoil(self: RayTrial) -> None:
                    def fail() -> None:
                        raise RuntimeError("CUDA error: device-side assert triggered")

                    artifacts.write_checkpoint(self.run, self.trial)  # type: ignore[arg-type]
                    self.trial.step = fail  # type: ignore[method-assign, union-attr, assignment]

                ray.get(actor.__ray_call__.remote(spoil))

    outcome = ray.tune.run(
        RayTrial,
        config=config,
        callbacks=[Break()],
        max_failures=1,
        reuse_actors=True,
        raise_on_failed_trial=False,
        storage_path=str(tmp_path / "tune"),
        verbose=0,
    )
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"]
    assert _left(config) == _left(whole)
    assert pids[0] != pids[-1]
    assert _gone(pids[:1]), "the process that lost its GPU runs nothing more"


@pytest.mark.slow
def test_a_trial_whose_fold_worker_was_killed_goes_on_from_its_checkpoint(
    session: None, make_config: MakeConfig, frozen_recipe: Recipe, tmp_path: Path
) -> None:
    """Under Ray Tune itself."""
    whole = make_config("whole", frozen_recipe)
    _alone(whole)
    run = RunFolder(whole["run"])
    seen: list[list[int]] = []
    told: list[dict[str, Any]] = []

    class Kill(ray.tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            told.append(result)
            actor = trial.temporary_state.ray_actor
            if result["epoch"] == 3 and not seen:

                def save(self: RayTrial) -> None:
                    artifacts.write_checkpoint(self.run, self.trial)

                ray.get(actor.__ray_call__.remote(save))
                seen.append([*_pids(actor), ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))])
                os.kill(seen[0][0], signal.SIGKILL)
            elif result["epoch"] == 5:
                seen.append(_pids(actor))

    config = make_config("killed", frozen_recipe, TWO)
    outcome = ray.tune.run(
        RayTrial,
        config=config,
        callbacks=[Kill()],
        max_failures=1,
        reuse_actors=True,
        raise_on_failed_trial=False,
        storage_path=str(tmp_path / "tune"),
        verbose=0,
    )
    assert [trial.status for trial in outcome.trials] == ["TERMINATED"]
    assert [result["epoch"] for result in told if result["epoch"] > 3] == [4, 5, 6]
    kept = {dict(result["report"])["seconds"] for result in told if result["epoch"] == 3}
    assert len(kept) == 1, "the checkpoint's epochs are not trained again"
    assert _left(config) == _left(whole)
    assert not run.checkpoints.names()
    first, second = seen
    assert not set(first) & set(second)
    assert _gone(first + second)


# --- one fold over both ---


def _together(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"resources": TWO, "gpus_per_fold": 2}


def _close(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Whether two trials have left the same but for rounding."""
    run = RunFolder(one["run"])
    tables = [run.read_oof(config["trial"]) for config in (one, two)]
    nets = [load(run.weights(config["trial"]).read("fold1.safetensors")) for config in (one, two)]
    assert nets[0].keys() == nets[1].keys()
    return np.allclose(tables[0].predictions, tables[1].predictions, rtol=1e-3, atol=1e-2) and all(
        torch.allclose(nets[0][name], nets[1][name], rtol=1e-3, atol=1e-4) for name in nets[0]
    )


@pytest.fixture
def split_recipe(frozen_recipe: Recipe) -> Recipe:
    """Nothing in it depends on which images share a process; batches of five leave shares of two and three."""
    return frozen_recipe.with_overrides(
        {
            "head.dropout": 0.0,
            "loss.lds.enabled": True,
            "augment.strength": "medium",
            "optimizer": {"clip_grad": 1.0, "ema": 0.9, "grad_accum_steps": 2},
            "schedule": {"epochs": 3, "batch_size": 5},
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["head", "network", "last batch smaller than the ranks"])
def test_steps_of_two_processes_are_those_of_one(
    warm: Callable[[dict[str, Any]], Any], make_config: MakeConfig, split_recipe: Recipe, kind: str
) -> None:
    recipe = split_recipe
    if kind == "network":  # without batch norm, and augmented picture by picture
        backbone = {"name": "test_vit", "tuning": "full"}
        changes = {"backbone": backbone, "view.kind": "whole", "optimizer": {"kind": "sgd"}, "validation.folds": 2}
        recipe = recipe.with_overrides(changes)
    elif kind != "head":
        recipe = recipe.with_overrides({"schedule.batch_size": 1, "optimizer.kind": "sgd"})
    alone, split = make_config("alone", recipe), _together(make_config("split", recipe))
    one = _alone(alone)
    two = _steps(warm(split))
    assert "error" not in two[-1]
    assert _close(alone, split)
    for a, b in zip(one, two, strict=True):
        assert dict(b["report"])["train_loss"] == pytest.approx(dict(a["report"])["train_loss"], rel=1e-3)
        assert dict(b["report"])["micro_batch"] == -(-recipe.schedule.batch_size // 2)
    other = make_config("other", recipe.with_overrides({"seed": 1}))
    _alone(other)
    assert not _close(alone, other), "what is close shows nothing"


@pytest.mark.slow
def test_two_processes_end_an_epoch_with_the_same_network(
    warm: Callable[[dict[str, Any]], Any], make_config: MakeConfig, tuned_recipe: Recipe
) -> None:
    """With batch norms, dropout and mixup, which differ from share to share."""
    recipe = tuned_recipe.with_overrides({"optimizer.ema": 0.9, "augment.mixup.probability": 0.5})
    actor = warm(_together(make_config("apart", recipe)))
    _steps(actor, 2)

    def ask(self: RayTrial) -> list[Any]:
        def look(worker: Any) -> dict[str, bytes]:
            learner = worker.folds.learners[0]
            state = {**learner.net.state_dict(), **{f"ema.{k}": v for k, v in learner.ema.module.state_dict().items()}}
            return {name: tensor.numpy().tobytes() for name, tensor in state.items()}

        assert self.workers is not None
        return ray.get([worker.__ray_call__.remote(look) for worker in self.workers.actors])

    first, second = ray.get(actor.__ray_call__.remote(ask))
    assert any("running_mean" in name for name in first)
    assert first == second


@pytest.mark.slow
def test_both_halve_when_one_is_out_of_memory(
    warm: Callable[[dict[str, Any]], Any], make_config: MakeConfig, split_recipe: Recipe
) -> None:
    recipe = split_recipe.with_overrides({"schedule.batch_size": 8})
    alone, split = make_config("alone", recipe), _together(make_config("split", recipe))
    _alone(alone)
    actor = warm(split)
    _steps(actor, 1)

    def shrink(self: RayTrial) -> None:
        def small(worker: Any) -> None:
            for learner in worker.folds.learners.values():
                embed = learner.net.embed

                def checked(batch: Any, embed: Any = embed) -> Any:
                    if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() and len(batch.views) > 2:
                        raise torch.OutOfMemoryError("CUDA out of memory")
                    return embed(batch)

                learner.net.embed = checked

        assert self.workers is not None
        ray.get(self.workers.actors[1].__ray_call__.remote(small))

    ray.get(actor.__ray_call__.remote(shrink))
    results = _steps(actor)
    assert [dict(r["report"])["micro_batch"] for r in results] == [2, 2]
    assert _close(alone, split)


@pytest.mark.slow
def test_nobody_waits_for_a_process_that_has_failed_or_gone(
    warm: Callable[[dict[str, Any]], Any], make_config: MakeConfig, split_recipe: Recipe
) -> None:
    def spoil(self: RayTrial) -> None:
        def fail(*_: Any) -> None:
            raise ValueError("no way")

        assert self.workers is not None
        ray.get(self.workers.actors[1].__ray_call__.remote(lambda worker: setattr(worker.folds, "train", fail)))

    actor = warm(_together(make_config("bad", split_recipe)))
    _steps(actor, 1)
    ray.get(actor.__ray_call__.remote(spoil))
    (result,) = _steps(actor, 1)
    assert result["error"].startswith("ValueError: no way (test_parallel_folds.py:")

    actor = warm(_together(make_config("lost", split_recipe)))
    _steps(actor, 1)
    pids = _pids(actor)
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(WorkerLostError):
        ray.get(actor.train.remote(), timeout=60)
    assert _gone(pids)


def test_a_lost_worker_is_left_to_ray(make_config: MakeConfig, frozen_recipe: Recipe, monkeypatch: Any) -> None:
    def lost(self: RayTrial) -> Any:
        raise WorkerLostError("the node is gone")

    monkeypatch.setattr(RayTrial, "_advance", lost)
    with pytest.raises(WorkerLostError):
        RayTrial(config=make_config("t", frozen_recipe)).train()
