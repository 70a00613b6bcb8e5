"""Preparing the next batches in threads while the current one is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


def prefetch(jobs: Iterable[Callable[[], _Result]], threads: int) -> Iterator[_Result]:
    """Yield the results of jobs in order; threads run at most one job each ahead of the caller."""
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[_Result]] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(job))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
