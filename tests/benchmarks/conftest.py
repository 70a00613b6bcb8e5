"""Benchmarks at tiny sizes: they run, print sound rows, and notice when the two ways do not give the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from benchmarks.table import Measure, Options, Row, table


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rows() -> Callable[[Measure], list[Row]]:
    """`rows(measure)`: the rows of a script at tiny size, each found to be sound."""

    def collect(measure: Measure) -> list[Row]:
        found = list(measure(Options(quick=True)))
        assert all(row.ratio > 0 and any(c.isdigit() for c in row.forage + row.against) for row in found)
        assert {row.script for row in found} == {measure.__module__.removeprefix("benchmarks.")}
        assert len(table(found, Options(quick=True)).splitlines()) == 2 + len(found)
        return found

    return collect
