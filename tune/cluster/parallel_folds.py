"""Trains the folds of a trial side by side: Ray actors in the trial's placement group, each with one GPU.

Every actor runs `SequentialFolds` on its share of the folds, so that results are the same bit for bit as those of one
process. Several workers may train one fold together.

Ray Train's TorchTrainer does not fit: it creates a placement group of its own beside the trial's, so that trials could
block each other, and it runs a training loop to its end, while a trial is scored after every epoch of all folds.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
import ray.exceptions
import torch
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pasture.errors import ForageError, JobError
from pasture.targets import Array
from trainables.compute.device_errors import DeviceLostError, is_device_lost
from trainables.compute.ranks import RankLostError, Rendezvous, open_store
from trainables.trial.fold_executor import FoldState, SequentialFolds, Trained, Weights

Build = Callable[[Sequence[int], Rendezvous | None], SequentialFolds]
_Value = TypeVar("_Value")


class WorkerLostError(Exception):
    """A fold worker has died; the trial can continue from its checkpoint in another process."""


def bundles(resources: Mapping[str, float]) -> list[dict[str, float]]:
    """Bundles of a trial's placement group: if it has several GPUs, one per GPU with an equal share of the CPUs.

    Bundles of one trial may lie on several nodes.
    """
    workers = max(1, int(resources.get("GPU", 0)))
    # Rounded down to Ray's resolution: thirds that add up to more than the whole would never be placed.
    shares = {name: math.floor(amount / workers * 10_000) / 10_000 for name, amount in resources.items()}
    return [{name: share for name, share in shares.items() if share}] * workers


def bug(error: Exception) -> str:
    """An unexpected error in one line, with the place where it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})"


class FoldWorker:
    """Ray actor that trains some folds of a trial in its own process."""

    def __init__(self) -> None:
        self.folds: SequentialFolds | None = None

    def open_store(self) -> tuple[str, int]:
        """Open a store for a rendezvous and return its host and port."""
        host = ray.util.get_node_ip_address()
        self.store, port = open_store(host)
        return host, port

    def begin(self, build: Callable[[], SequentialFolds]) -> None:
        """Begin with the folds of another trial."""
        self.folds = None  # frees the memory of the last trial first
        with _errors_translated():
            self.folds = build()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the executor."""
        with _errors_translated():
            return getattr(self.folds, method)(*arguments)


@contextmanager
def _errors_translated() -> Iterator[None]:
    """Raise only errors that another process can unpickle; others become a `JobError` that names their place."""
    try:
        yield
    except (ForageError, MemoryError, torch.OutOfMemoryError, RankLostError):
        raise
    except Exception as error:
        if is_device_lost(error):
            raise DeviceLostError(f"the GPU of a fold worker cannot be used any more: {bug(error)}") from error
        raise JobError(bug(error)) from error


class ParallelFolds:
    """A group of fold workers that trains one trial after another.

    Args:
        bundles: the bundles of the placement group that this process runs in, one per worker.
    """

    def __init__(self, bundles: Sequence[Mapping[str, float]]) -> None:
        self.bundles = bundles
        self.actors: list[Any] = []
        self.leaders: dict[int, Any] = {}
        self.together = 1

    def begin(self, build: Build, folds: Sequence[int], together: int = 1) -> None:
        """Begin with the folds of another trial.

        Args:
            build: creates the executor of some folds in a worker, given a rendezvous if workers train them together.
            folds: numbers of all folds.
            together: number of workers that train one fold.

        Raises:
            WorkerLostError: a worker died. Errors of `build` are raised as they are.
        """
        if not self.actors:
            self.actors = [self._start(index) for index in range(len(self.bundles))]
        self.together = together
        leaders = self.actors[::together]
        self.leaders = {fold: leaders[i % len(leaders)] for i, fold in enumerate(folds)}
        places = self._wait([actor.open_store.remote() for actor in leaders]) if together > 1 else []
        begun = []
        for index, actor in enumerate(self.actors):
            group, rank = divmod(index, together)
            rendezvous = Rendezvous(rank, together, *places[group]) if places else None
            begun.append(actor.begin.remote(partial(build, folds[group :: len(leaders)], rendezvous)))
        self._wait(begun)

    def train(self, epoch: int, scores: list[float]) -> dict[int, Trained]:
        """Train one epoch of all folds at the same time."""
        return _of_each(self._all("train", epoch, scores))

    def predict(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for its held-out rows: (rows, elements, 5) in grams."""
        return self._joined("predict", elements)

    def predict_outer(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for the images of outer dates: (rows, elements, 5) in grams."""
        return self._joined("predict_outer", elements)

    def keep(self) -> None:
        """Keep the present weights of all folds, each in its worker."""
        self._all("keep")

    def go_back(self) -> None:
        """Load the kept weights."""
        self._all("go_back")

    def load_average(self) -> None:
        """Load the mean of the weights of the last epochs."""
        self._all("load_average")

    def kept(self, fold: int) -> Weights:
        """The kept weights of a fold, fetched from its worker."""
        (weights,) = self._wait([self.leaders[fold].call.remote("kept", fold)])
        found: Weights = weights
        return found

    def state(self) -> dict[int, FoldState]:
        """State of all folds, fetched from the workers; from the first of those that train a fold together."""
        return _of_each(self._wait([actor.call.remote("state") for actor in self.actors[:: self.together]]))

    def load_state(self, states: Mapping[int, FoldState]) -> None:
        """Send each worker the states of its folds."""
        sent = []
        for index, actor in enumerate(self.actors):
            leader = self.actors[index - index % self.together]
            own = {fold: states[fold] for fold, first in self.leaders.items() if first is leader}
            sent.append(actor.call.remote("load_state", own))
        self._wait(sent)

    def stop(self) -> None:
        """End the workers."""
        for actor in self.actors:
            ray.kill(actor)
        self.actors, self.leaders = [], {}

    def _start(self, index: int) -> Any:
        bundle = self.bundles[index]
        there = PlacementGroupSchedulingStrategy(
            ray.util.get_current_placement_group(), placement_group_bundle_index=index
        )
        options = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle["GPU"], "scheduling_strategy": there}
        return ray.remote(FoldWorker).options(**options).remote()

    def _joined(self, method: str, elements: tuple[int, ...]) -> dict[int, Array]:
        """Rows of each fold, from all workers that train it."""
        parts = self._all(method, elements)
        return {fold: np.concatenate([part[fold] for part in parts if fold in part]) for fold in self.leaders}

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return self._wait([actor.call.remote(method, *arguments) for actor in self.actors])

    def _wait(self, results: list[Any]) -> list[Any]:
        """Results of all workers; raises the first error of any."""
        try:
            found: list[Any] = ray.get(results)
        except ray.exceptions.RayTaskError as error:
            lost = isinstance(error.cause, RankLostError | DeviceLostError)
            if lost or self.together > 1:  # the other workers of the fold would wait for this one for ever
                self.stop()
            if lost:
                raise WorkerLostError(str(error.cause)) from error
            raise error.cause from error  # the RayTaskError holds the traceback of the other process
        except ray.exceptions.RayError as error:
            self.stop()
            raise WorkerLostError(" ".join(str(error).split())) from None
        return found


def _of_each(parts: Sequence[Mapping[int, _Value]]) -> dict[int, _Value]:
    """The workers' dictionaries by fold in one."""
    return {fold: value for part in parts for fold, value in part.items()}
