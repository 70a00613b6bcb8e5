"""Timing two ways of doing one thing, in turns, so that a busy machine is equally unkind to both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")


@dataclass(frozen=True)
class Pairs(Generic[Ours, Theirs]):
    """Seconds of both ways, pair by pair, and what the last turn of each gave.

    Attributes:
        ours, theirs: seconds, one of each a pair.
        our_result, their_result: of the last pair.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    our_result: Ours
    their_result: Theirs

    @property
    def our_seconds(self) -> float:
        """Median."""
        return statistics.median(self.ours)

    @property
    def their_seconds(self) -> float:
        """Median."""
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """Median over the pairs of how many times as long theirs took."""
        return statistics.median(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))


def seconds(do: Callable[[], Ours]) -> tuple[float, Ours]:
    """Wall time of a call, and its result."""
    gc.collect()
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def pairs(
    ours: Callable[[], Ours], theirs: Callable[[], Theirs], repeats: int, *, warm_up: bool = True
) -> Pairs[Ours, Theirs]:
    """Time both in turns, `repeats` times each.

    With `warm_up` one turn more comes before and is not counted, unless there is only one: whatever is slow only once
    (imports, caches of the system, memory that is asked for the first time) has then happened for both.
    """
    if warm_up and repeats > 1:
        ours()
        theirs()
    turns = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    our_result, their_result = turns[-1][0][1], turns[-1][1][1]
    return Pairs(tuple(t[0][0] for t in turns), tuple(t[1][0] for t in turns), our_result, their_result)
