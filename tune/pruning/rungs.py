"""Common part of pruners by successive halving: trials are compared at a few epochs, the rungs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One trial at a rung.

    Attributes:
        score: R2 of its OOF.
        date_losses: weighted residual sum of squares of the same OOF on each date, in grams squared; empty where the
            report has none.
        searched: whether the search has proposed it; False for start trials.
    """

    score: float
    date_losses: tuple[float, ...]
    searched: bool

    @cached_property
    def loss(self) -> float:
        """Sum of the losses of all dates, in grams squared."""
        return math.fsum(self.date_losses)


class RungPruner(ABC):
    """Judges each trial once at each rung, against the trials that reached the rung before it.

    The first trial at a rung continues. A score that is not finite never continues and is not recorded, because a
    quantile of the scores could not be computed with it.

    Args:
        rungs: epochs (1-based) at which it judges.
        reduction: about 1/reduction of the trials continue after a rung.
        at_least: a trial also continues while fewer than this many searched trials are better.

    Attributes:
        entries: for each rung its trials, by name.
    """

    def __init__(self, rungs: tuple[int, ...], reduction: int = 3, at_least: int = 0) -> None:
        self.rungs, self.reduction, self.at_least = rungs, reduction, at_least
        self.entries: dict[int, dict[str, Entry]] = {rung: {} for rung in rungs}

    def judge(self, trial: str, report: Mapping[str, Any], searched: bool = True) -> bool:
        """Record a trial's report; whether the trial may continue. See `Pruner.judge`."""
        rung = self.entries.get(report["epoch"])
        if rung is None or trial in rung:
            return True
        entry = Entry(float(report["score"]), tuple(report.get("date_losses", ())), searched)
        if not math.isfinite(entry.score):
            return not searched
        earlier = list(rung.values())
        rung[trial] = entry
        return not searched or not earlier or self._is_needed(entry, earlier) or self._continues(entry, earlier)

    def _is_needed(self, entry: Entry, earlier: Sequence[Entry]) -> bool:
        """Whether fewer than `at_least` searched trials are better."""
        if not self.at_least:
            return False
        return sum(other.searched and other.score > entry.score for other in earlier) < self.at_least

    @abstractmethod
    def _continues(self, entry: Entry, earlier: Sequence[Entry]) -> bool:
        """Whether a trial continues, compared with those that reached the rung before it (at least one)."""
