"""A sweep of two sessions as trackers see it: the records of the golden run, event by event, without Ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger, Record
from tune.records.plan import TrackerName
from tune.trackers.live import LiveTrackers

Events = Iterator[Record]
Follow = Callable[..., None]


def _events(record: Record, epochs: int | None = None) -> Events:
    """A trial as it starts, after each epoch and at its end; cut short where `epochs` says so."""
    for done in range(len(record.curve) if epochs is None else epochs + 1):
        yield replace(record, status="RUNNING", curve=record.curve[:done], error="")
    if epochs is None:
        yield record


@pytest.fixture
def golden(golden_folder: Path, tmp_path: Path) -> RunFolder:
    """t0000 complete after 1 epoch, t0001 complete after 3, t0002 pruned after 1, t0003 failed without a recipe."""
    return RunFolder(shutil.copytree(golden_folder / "run", tmp_path / "run"))


@pytest.fixture
def follow_two_sessions(golden: RunFolder) -> Follow:
    """`follow_two_sessions(tracker)`: the first session ends while t0001 has two of three epochs."""

    def follow(name: TrackerName) -> None:
        said: list[str] = []
        records = Ledger(golden).records
        first = [*_events(records["t0000"]), *_events(records["t0001"], epochs=2)]
        # The worker was lost in the second epoch, which is trained again; its report comes twice.
        second = [first[-2], first[-1], *list(_events(records["t0001"]))[2:], *_events(records["t0002"])]
        for events in (first, [*second, *_events(records["t0003"])]):
            ledger = Ledger(golden)
            ledger.records = {r.name: r for r in ledger.records.values() if r.name == "t0000" and events is not first}
            with LiveTrackers([name], golden, ledger, said.append) as trackers:
                for record in events:
                    trackers.watch(record)
        assert said == []

    return follow
