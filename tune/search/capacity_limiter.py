"""Proposes no more trials than the cluster can run, and decides which of them a free worker takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import ray
import ray.tune.search
from ray.tune.experiment import Trial

_REFRESH_SECONDS: Final = 5.0
"""How long the size of the cluster is taken as known; nodes may join and leave while a sweep runs."""


class CapacityLimiter(ray.tune.search.Searcher):  # type: ignore[misc]
    """Asks a searcher for a trial where the cluster has room for one more, like Ray's ConcurrencyLimiter for a number.

    By default Ray Tune starts one worker after the other. With this limit, workers start side by side, and a proposal
    knows the results of all trials that have ended.

    Args:
        searcher: its configurations hold `resources`, those of the whole trial.
        requests: all resources that trials may ask for.
        ahead: how many trials are proposed beyond the room there is. They show an autoscaler that it is short of nodes.
    """

    def __init__(
        self, searcher: ray.tune.search.Searcher, requests: Iterable[Mapping[str, float]], ahead: int = 0
    ) -> None:
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.inner, self.ahead = searcher, ahead
        requests = list(requests)
        self.least = {name: min(request.get(name, 0.0) for request in requests) for name in ("CPU", "GPU")}
        self.live: dict[str, Mapping[str, float]] = {}
        self.waiting: set[str] = set()
        self.total: Mapping[str, float] = {}
        self.total_known = -math.inf

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The searcher's next configuration; None as long as the cluster is full."""
        full = bool(self.live) and self._full()
        if full and len(self.waiting) >= self.ahead:
            return None
        config: dict[str, Any] | str = self.inner.suggest(trial_id)
        if isinstance(config, dict):
            self.live[trial_id] = config["resources"]
            if full:
                self.waiting.add(trial_id)
        return config

    def choose(self, pending: Sequence[Trial]) -> Trial | None:
        """The trial that a free worker takes, of those without a worker; None if there are none.

        One that has lost its worker comes first, then one that was proposed ahead, then the newest. An older one has a
        worker process that is starting, which takes several seconds. Ray Tune would end that process if it gave the
        trial to another worker; where trials are shorter than a start, most workers would then start again and again
        and never train.
        """
        self.waiting &= {trial.trial_id for trial in pending}
        failed = (trial for trial in pending if trial.num_failures)
        ahead = (trial for trial in pending if trial.trial_id in self.waiting)
        return next(failed, None) or next(ahead, None) or (pending[-1] if pending else None)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial's resources are free."""
        self.live.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the ledger holds the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: no trial is live when a session begins."""

    def _full(self) -> bool:
        now = time.monotonic()
        if now - self.total_known > _REFRESH_SECONDS:
            self.total, self.total_known = ray.cluster_resources(), now
        return any(
            sum(request.get(name, 0.0) for request in self.live.values()) + least > self.total.get(name, 0.0) + 1e-6
            for name, least in self.least.items()
        )
