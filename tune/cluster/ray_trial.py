"""The trial as Ray Tune runs it: a class trainable that is kept warm from trial to trial."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import ray
import ray.tune
import torch

from pasture.dataset import read_train
from pasture.errors import ForageError, StorageError
from pasture.files import Folder
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset, fingerprint_without, with_fingerprint
from trainables.compute.precision import best_device
from trainables.compute.ranks import ALONE, Rendezvous, join
from trainables.features import embeddings
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import check_version
from trainables.trial import artifacts
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Report, Trial
from tune.cluster.data_copy import local_copy
from tune.cluster.parallel_folds import ParallelFolds, WorkerLostError, bug, bundles

CHECKPOINT_SECONDS = 5.0
"""A checkpoint is worth its price once at least this much work would be lost without it."""

_STATE = "trial.pt"


class RayTrial(ray.tune.Trainable):  # type: ignore[misc]
    """Runs one trial after another in one process, or, where it has several GPUs, in fold workers beside it.

    The configuration holds `trial` (name), `recipe` (as JSON), `data`, `fingerprint`, `run` (location of the run
    directory), `reported` (epochs that the driver knows already), `resources` (what the trial asks Ray for),
    `gpus_per_fold` (how many of its GPUs train one fold together), `forage` (the driver's version), `node` (the
    driver's, on a cluster: others fetch the data if they do not have them) and `cut` (the epoch after which the trial
    may wait for a later session; None for none). Results hold `epoch`, `score`, the trial's whole `report` as pairs,
    and `finished`, true in the last one, after everything is written; or `error`, where the trial cannot go on, with
    `stop` where that is no fault of its own and the sweep has to wait. A trial takes up its checkpoint by itself, so
    that it survives its worker and its driver alike.
    """

    workers: ParallelFolds | None = None

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> ray.tune.PlacementGroupFactory:
        """What Ray places the trial by: each recipe has its own."""
        parts = bundles(config["resources"])
        # Where there are several they are the fold workers'; this process needs nothing beside the first of them.
        return ray.tune.PlacementGroupFactory(parts if len(parts) == 1 else [{}, *parts])

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a trial. The work itself waits for the first step, whose errors are told to the driver."""
        check_version(config["forage"])
        self.job = config
        self.run = RunFolder(config["run"])
        if self.workers is None and len(parts := bundles(config["resources"])) > 1:
            self.workers = ParallelFolds(parts)
        self.recipe = _recipe(config)
        self.trial: Trial | None = None
        self.curve: list[Report] = []
        self.position = 0
        self.written = False
        self.saved_at = time.monotonic()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process."""
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """The process ends, and its workers with it."""
        if self.workers is not None:
            self.workers.stop()

    def step(self) -> dict[str, Any]:
        """One epoch; first those that an earlier life of this trial has trained but the driver has not heard of."""
        try:
            return self._advance()
        except StorageError as error:
            return {"error": str(error), "stop": True, "done": True}
        except WorkerLostError:
            raise  # Ray starts the trial anew, which goes on from its checkpoint
        except ForageError as error:
            return {"error": str(error), "done": True}
        except (MemoryError, torch.OutOfMemoryError) as error:
            return {"error": _out_of_memory(self.recipe, error), "done": True}
        except Exception as error:  # a bug in one trial must not stop the sweep
            return {"error": bug(error), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save the trial for a scheduler that pauses trials."""
        if self.trial is not None:
            Path(checkpoint_dir, _STATE).write_bytes(self.trial.state())

    def load_checkpoint(self, checkpoint: str) -> None:
        """Continue from `save_checkpoint`."""
        state = Path(checkpoint, _STATE)
        if state.exists():
            self.trial = self._new_trial()
            self.trial.load_state(state.read_bytes())
            self.curve = list(self.trial.curve)
            self.position = len(self.curve)

    def get_auto_filled_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing: Ray would send the configuration back with every report and keep statistics of its own clocks."""
        return {}

    def _advance(self) -> dict[str, Any]:
        if self.trial is None and not self.written:
            self._open()
        if self.position < len(self.curve):
            report = self.curve[self.position]
        else:
            assert self.trial is not None
            report = self.trial.step()
            self.curve.append(report)
        self.position += 1
        # `done`, not a count: early stopping ends a trial too; what is written is done at the end of its curve.
        last = self.position == len(self.curve) and (self.written or bool(self.trial and self.trial.done))
        if self.trial is not None:
            if last:
                artifacts.write_finished(self.run, self.trial)
            elif self.position == self.job["cut"] or time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                artifacts.write_checkpoint(self.run, self.trial)
                self.saved_at = time.monotonic()
        return result_of(report, finished=last)

    def _open(self) -> None:
        fingerprint = fingerprint_without(self.job["fingerprint"], self.job.get("outer", ()))
        finished = artifacts.read_finished(self.run, self.job["trial"], self.recipe, fingerprint)
        if finished is not None:
            self.curve, self.written = finished.metadata["curve"], True
        else:
            self.trial = self._new_trial()
            artifacts.load_checkpoint(self.run, self.trial)
            self.curve = list(self.trial.curve)
        # The last known epoch is told again where nothing is left to train: the driver waits for `finished`.
        over = self.written or bool(self.trial and self.trial.done)
        self.position = min(self.job["reported"], len(self.curve) - over)

    def _new_trial(self) -> Trial:
        job, dataset = self.job, _fetched(self.job, self.recipe)
        if self.workers is None:
            executor = SequentialFolds(self.recipe, dataset, best_device(), _shared(job))
            return Trial(job["trial"], self.recipe, dataset, executor)
        trial = Trial(job["trial"], self.recipe, dataset, self.workers)
        self.workers.begin(partial(folds_of, job), trial.fold_numbers, job["gpus_per_fold"])
        return trial


def folds_of(job: dict[str, Any], folds: Sequence[int], rendezvous: Rendezvous | None) -> SequentialFolds:
    """Some folds of a trial in a process that knows nothing of it yet: a fold worker, on whatever node.

    Args:
        job: configuration of the trial.
        folds: their numbers.
        rendezvous: where the processes meet that train these folds together; None for one alone.
    """
    check_version(job["forage"])
    recipe = _recipe(job)
    dataset, device = _fetched(job, recipe), best_device()
    ranks = join(rendezvous, device) if rendezvous else ALONE
    return SequentialFolds(recipe, dataset, device, _shared(job), folds, ranks)


def _recipe(job: dict[str, Any]) -> Recipe:
    return Recipe.parse(json.loads(job["recipe"]))


def _shared(job: dict[str, Any]) -> Folder | None:
    return RunFolder(job["run"]).features if job["node"] else None


def _fetched(job: dict[str, Any], recipe: Recipe) -> VerifiedDataset:
    """The labelled data, when this node has them and the imported banks."""
    for bank in recipe.banks:
        embeddings.adopt(bank, RunFolder(job["run"]).banks)
    return _dataset(job["data"], job["fingerprint"], job["node"]).hold_out(job.get("outer", ()))


def result_of(report: Report, finished: bool) -> dict[str, Any]:
    """What Ray is told of an epoch: pairs instead of a mapping, because it keeps statistics of every number it sees, of
    every trial, for as long as the sweep runs."""
    told = {"epoch": report["epoch"], "score": report["score"], "report": tuple(report.items())}
    return {**told, "finished": finished, "done": finished}


def _out_of_memory(recipe: Recipe, error: Exception) -> str:
    where = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
    return (
        f"out of {where} with batches of {recipe.schedule.batch_size} and views of {recipe.view.size} pixels: lower "
        "schedule.batch_size or view.size, or let fewer trials share a device (--gpus-per-trial, --cpus-per-trial)"
    )


@lru_cache(maxsize=1)
def _dataset(data: str, fingerprint: str, node: str | None) -> VerifiedDataset:
    if node is None or node == ray.get_runtime_context().get_node_id():
        # The driver has verified these files; decoding every picture again in every process would take minutes.
        return with_fingerprint(read_train(data), fingerprint)
    server = ray.get_actor(f"forage-data-{fingerprint}")
    names, read = server.names.remote, server.read.remote
    return local_copy(data, fingerprint, lambda: ray.get(names()), lambda name: ray.get(read(name)))
