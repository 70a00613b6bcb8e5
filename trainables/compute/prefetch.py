"""Making the next batches ready while the present one is computed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


def prefetch(jobs: Iterable[Callable[[], _Result]], threads: int) -> Iterator[_Result]:
    """Results of jobs in their order, done by threads one job a thread ahead of the caller."""
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
