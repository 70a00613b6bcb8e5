"""Batches made ready ahead of time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from trainables.compute.prefetch import prefetch


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_results_come_in_order(threads: int, count: int) -> None:
    assert list(prefetch([partial(int, i) for i in range(count)], threads)) == list(range(count))


def test_the_next_is_under_way_while_one_is_used_and_no_more() -> None:
    begun = [threading.Event() for _ in range(6)]
    results = prefetch([partial(event.set) for event in begun], threads=2)
    next(results)
    assert begun[1].wait(10)
    assert begun[2].wait(10), "nothing is prepared ahead"
    assert not any(event.is_set() for event in begun[3:]), "memory grows with the epoch"
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_out_and_nothing_hangs() -> None:
    def broken() -> int:
        raise ValueError("bad picture")

    results: Iterator[int] = prefetch([partial(int, 1), broken, *[partial(int, i) for i in range(20)]], 2)
    assert next(results) == 1
    with pytest.raises(ValueError, match="bad picture"):
        list(results)
