"""Folds side by side: Ray actors in the trial's placement group, each with a GPU of its own and its share of the folds.

Beside `ray_trial.py` this is the one file of the package that imports Ray. What runs in the actors is the same executor
that runs folds one after another; results are the same bit for bit. Several workers may train a fold together.

Not Ray Train's TorchTrainer: it makes a placement group of its own beside the trial's, so that trials could hold what
each other's groups wait for, and it runs a loop to its end, while a trial is judged after every epoch of all folds.
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
from trainables.compute.ranks import RankLostError, Rendezvous, open_store
from trainables.trial.fold_executor import FoldState, SequentialFolds, Trained, Weights

Build = Callable[[Sequence[int], Rendezvous | None], SequentialFolds]
_Value = TypeVar("_Value")


class WorkerLostError(Exception):
    """A fold worker has died: the trial's process is of no more use, its checkpoint is."""


def bundles(resources: Mapping[str, float]) -> list[dict[str, float]]:
    """What a trial asks Ray for in one piece each: one GPU, where it has several, with an equal share of the CPUs.

    Bundles of one trial may lie on several nodes.
    """
    workers = max(1, int(resources.get("GPU", 0)))
    # Rounded down to what Ray can express: thirds that add up to more than the whole would never be placed.
    shares = {name: math.floor(amount / workers * 10_000) / 10_000 for name, amount in resources.items()}
    return [{name: share for name, share in shares.items() if share}] * workers


def bug(error: Exception) -> str:
    """An error that nobody foresaw, in one line with its place."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


class FoldWorker:
    """The actor: some folds of a trial in a process of its own."""

    def __init__(self) -> None:
        self.folds: SequentialFolds | None = None

    def open_store(self) -> tuple[str, int]:
        """Host and port where other workers can meet this one."""
        host = ray.util.get_node_ip_address()
        self.store, port = open_store(host)
        return host, port

    def begin(self, build: Callable[[], SequentialFolds]) -> None:
        """Begin with another trial's folds."""
        self.folds = None  # its memory is needed for the next
        with _place_named():
            self.folds = build()

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method of its executor returns."""
        with _place_named():
            return getattr(self.folds, method)(*arguments)


@contextmanager
def _place_named() -> Iterator[None]:
    """Errors lose their traceback on the way to another process."""
    try:
        yield
    except (ForageError, MemoryError, torch.OutOfMemoryError, RankLostError):
        raise
    except Exception as error:
        raise JobError(bug(error)) from None


class ParallelFolds:
    """A group of actors, kept warm from trial to trial.

    Args:
        bundles: of the placement group that this process runs in: one for each worker.
    """

    def __init__(self, bundles: Sequence[Mapping[str, float]]) -> None:
        self.bundles = bundles
        self.actors: list[Any] = []
        self.leaders: dict[int, Any] = {}
        self.together = 1

    def begin(self, build: Build, folds: Sequence[int], together: int = 1) -> None:
        """Begin with another trial's folds.

        Args:
            build: makes the executor of some of them in a worker, which meets others for it.
            folds: all of them.
            together: how many workers train one fold.

        Raises:
            WorkerLostError, and whatever `build` raises.
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
        """One epoch of all folds at the same time."""
        return _of_each(self._all("train", epoch, scores))

    def predict(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """The held-out rows of each fold."""
        return self._joined("predict", elements)

    def predict_outer(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for the images of outer dates."""
        return self._joined("predict_outer", elements)

    def keep(self) -> None:
        """Each worker keeps its own."""
        self._all("keep")

    def go_back(self) -> None:
        """To what was kept."""
        self._all("go_back")

    def best(self, fold: int) -> Weights:
        """Fetched from the fold's worker."""
        (weights,) = self._wait([self.leaders[fold].call.remote("best", fold)])
        found: Weights = weights
        return found

    def state(self) -> dict[int, FoldState]:
        """Fetched from all; of workers that train a fold together, from the first."""
        return _of_each(self._wait([actor.call.remote("state") for actor in self.actors[:: self.together]]))

    def load_state(self, states: Mapping[int, FoldState]) -> None:
        """Each worker is sent its own folds'."""
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
        """Results of all workers, or the first error of any."""
        try:
            found: list[Any] = ray.get(results)
        except ray.exceptions.RayTaskError as error:
            if self.together > 1:  # the others of its fold wait for it, and would for ever
                self.stop()
            if isinstance(error.cause, RankLostError):
                raise WorkerLostError(str(error.cause)) from None
            raise error.cause from None
        except ray.exceptions.RayError as error:
            self.stop()
            raise WorkerLostError(" ".join(str(error).split())) from None
        return found


def _of_each(parts: Sequence[Mapping[int, _Value]]) -> dict[int, _Value]:
    """What workers say of their folds, in one."""
    return {fold: value for part in parts for fold, value in part.items()}
