"""The trial as Ray Tune runs it: a class trainable whose process runs many trials."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Final

import ray
import ray.tune
import torch

from pasture.dataset import read_train
from pasture.errors import ForageError, StorageError
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset, fingerprint_without, with_fingerprint
from trainables.compute.device_errors import DeviceLostError, is_device_lost
from trainables.compute.precision import best_device
from trainables.compute.ranks import ALONE, Rendezvous, join
from trainables.features import embeddings
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import check_version
from trainables.trial import artifacts
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Report, Trial
from tune.cluster.data_copy import local_copy
from tune.cluster.parallel_folds import ParallelFolds, WorkerLostError, bug, bundles
from tune.cluster.trial_job import TrialJob
from tune.records.preparation import PreparationWriter

CHECKPOINT_SECONDS = 5.0
"""A checkpoint is written after at least this much work since the last one."""

_MOST_TRACEBACK: Final = 20_000
"""Characters of a traceback that are kept."""


class RayTrial(ray.tune.Trainable):  # type: ignore[misc]
    """Runs one trial after another in one process or, for a trial with several GPUs, in fold workers beside it.

    The configuration is that of a `TrialJob`. A result holds `epoch`, `score`, the whole `report` as pairs, and
    `finished`, which is true in the last result, after all files are written. A trial that cannot go on returns
    `error` and `traceback` instead; with `stop` if the storage failed, which stops the sweep.

    A trial continues from its own checkpoint in the run directory, not from one of Ray's, so that it survives the loss
    of its worker and of the driver.
    """

    workers: ParallelFolds | None = None

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> ray.tune.PlacementGroupFactory:
        """Placement group of a trial; each recipe has its own."""
        parts = bundles(config["resources"])
        # Several bundles belong to the fold workers; this process needs no resources beside them.
        return ray.tune.PlacementGroupFactory(parts if len(parts) == 1 else [{}, *parts])

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a trial. The work waits for the first `step`, whose errors are returned to the driver."""
        self.job = TrialJob.from_config(config)
        check_version(self.job.forage)
        self.run = RunFolder(self.job.run)
        if self.workers is None and len(parts := bundles(self.job.resources)) > 1:
            self.workers = ParallelFolds(parts)
        self.recipe = _recipe(self.job)
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
        """End the fold workers together with this process."""
        if self.workers is not None:
            self.workers.stop()

    def step(self) -> dict[str, Any]:
        """Run one epoch; epochs that are trained already and unknown to the driver are reported first.

        Raises:
            WorkerLostError: a fold worker died. Ray starts the trial again, which continues from its checkpoint.
            DeviceLostError: the GPU is unusable for this process. Ray ends the process and starts the trial in another.
        """
        try:
            return self._advance()
        except StorageError as error:
            return {"error": str(error), "stop": True, "done": True}
        except (WorkerLostError, DeviceLostError):
            raise
        except ForageError as error:
            return _failed(str(error))
        except (MemoryError, torch.OutOfMemoryError) as error:
            return _failed(_out_of_memory(self.recipe, error))
        except Exception as error:  # a bug in one trial must not stop the sweep
            if is_device_lost(error):
                raise DeviceLostError(f"the GPU of this worker cannot be used any more: {bug(error)}") from error
            return _failed(bug(error))

    def get_auto_filled_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """No further metrics: Ray would return the configuration with every report and keep statistics of clocks."""
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
        # Not a comparison with the number of epochs: early stopping ends a trial too.
        last = self.position == len(self.curve) and (self.written or bool(self.trial and self.trial.done))
        if self.trial is not None:
            if last:
                artifacts.write_finished(self.run, self.trial)
            elif self.position == self.job.cut or time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                artifacts.write_checkpoint(self.run, self.trial)
                self.saved_at = time.monotonic()
        return result_of(report, finished=last) | {"where": _where(self.job)}

    def _open(self) -> None:
        fingerprint = fingerprint_without(self.job.fingerprint, self.job.outer)
        finished = artifacts.read_finished(self.run, self.job.trial, self.recipe, fingerprint)
        if finished is not None:
            self.curve, self.written = finished.metadata["curve"], True
        else:
            self.trial = self._new_trial()
            artifacts.load_checkpoint(self.run, self.trial)
            self.curve = list(self.trial.curve)
        # If no epoch is left to train, the last one is reported again: the driver waits for `finished`.
        over = self.written or bool(self.trial and self.trial.done)
        self.position = min(self.job.reported, len(self.curve) - over)

    def _new_trial(self) -> Trial:
        job, dataset = self.job, _fetched(self.job, self.recipe)
        if self.workers is None:
            executor = SequentialFolds(self.recipe, _context(job, dataset))
            return Trial(job.trial, self.recipe, dataset, executor, job.rungs, job.origin)
        trial = Trial(job.trial, self.recipe, dataset, self.workers, job.rungs, job.origin)
        self.workers.begin(partial(folds_of, job), trial.fold_numbers, job.gpus_per_fold)
        return trial


def folds_of(job: TrialJob, folds: Sequence[int], rendezvous: Rendezvous | None) -> SequentialFolds:
    """Create the executor of some folds of a trial in a fold worker, on any node.

    Args:
        job: the trial.
        folds: numbers of the folds.
        rendezvous: where the processes meet that train these folds together; None for a single process.
    """
    check_version(job.forage)
    recipe = _recipe(job)
    context = _context(job, _fetched(job, recipe))
    ranks = join(rendezvous, context.device) if rendezvous else ALONE
    return SequentialFolds(recipe, context, folds, ranks)


def result_of(report: Report, finished: bool) -> dict[str, Any]:
    """The result of an epoch for Ray. The report is a tuple of pairs, because Ray keeps statistics of every number in a
    mapping, for every trial, as long as the sweep runs."""
    result = {"epoch": report["epoch"], "score": report["score"], "report": tuple(report.items())}
    return {**result, "finished": finished, "done": finished}


def _failed(error: str) -> dict[str, Any]:
    """The result of a trial that failed with the exception that is being handled."""
    return {"error": error, "traceback": traceback.format_exc()[-_MOST_TRACEBACK:], "done": True}


def _recipe(job: TrialJob) -> Recipe:
    return Recipe.parse(json.loads(job.recipe))


def _context(job: TrialJob, dataset: VerifiedDataset) -> TrialContext:
    """The data and the device: a GPU if the trial asked Ray for one, not if torch happens to see one."""
    device, run = best_device(gpu=job.resources.get("GPU", 0) > 0), RunFolder(job.run)
    watch = PreparationWriter(run, job.trial, job.reported)
    return TrialContext(dataset, device, run.features if job.node else None, watch)


def _fetched(job: TrialJob, recipe: Recipe) -> VerifiedDataset:
    """The labelled data without the outer dates, after this node has them and the imported banks."""
    for bank in recipe.banks:
        embeddings.adopt(bank, RunFolder(job.run).banks)
    return _dataset(job.data, job.fingerprint, job.node).hold_out(job.outer)


@lru_cache(maxsize=1)
def _dataset(data: str, fingerprint: str, node: str | None) -> VerifiedDataset:
    if node is None or node == ray.get_runtime_context().get_node_id():
        # The driver has verified these files; decoding every picture again in every process would take minutes.
        return with_fingerprint(read_train(data), fingerprint)
    server = ray.get_actor(f"forage-data-{fingerprint}")
    names, read = server.names.remote, server.read.remote
    return local_copy(data, fingerprint, lambda: ray.get(names()), lambda name: ray.get(read(name)))


def _where(job: TrialJob) -> str:
    """This node, and the GPUs that Ray gave to the trial: their numbers, or how many where fold workers have them."""
    gpus = sum(part.get("GPU", 0) for part in bundles(job.resources))
    if not gpus:
        return socket.gethostname()
    numbers = os.environ.get("CUDA_VISIBLE_DEVICES", "") if len(bundles(job.resources)) == 1 else ""
    return f"{socket.gethostname()}, {f'GPU {numbers}' if numbers else f'{gpus:g} GPU(s)'}"


def _out_of_memory(recipe: Recipe, error: Exception) -> str:
    where = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
    return (
        f"out of {where} with batches of {recipe.schedule.batch_size} and views of {recipe.view.size} pixels: lower "
        "schedule.batch_size or view.size, or let fewer trials share a device (--gpus-per-trial, --cpus-per-trial)"
    )
