"""Common part of all trackers: one tracked run for each trial, with one step for each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tune.records.ledger import Record, Status
from tune.trackers.names import metrics

ENDED: Final[tuple[Status, ...]] = ("COMPLETE", "PRUNED", "FAILED")


class TrackedRun(Protocol):
    """One trial in a tracker.

    Attributes:
        logged: number of epochs that the tracker has.
        ended: whether the tracker has the end of the trial too.
    """

    logged: int
    ended: bool

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add an epoch, 1-based, with its values by name."""

    def end(self, record: Record) -> None:
        """Add how the trial ended, and close the tracked run."""

    def pause(self) -> None:
        """Close the tracked run of a trial that goes on later."""


class Tracker(Protocol):
    """A place that shows trials."""

    def begin(self, record: Record) -> TrackedRun:
        """The tracked run of a trial: a new one, or the one that an earlier session began."""


class Follower:
    """Brings a tracker up to date with records, as often as they change.

    An epoch that is trained again after a lost worker is not logged again.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.open: dict[str, TrackedRun] = {}

    def follow(self, record: Record) -> None:
        """Log the epochs that the tracker lacks and, once the trial has ended, its end."""
        run = self.open.pop(record.name, None) or self.tracker.begin(record)
        for report in record.curve[run.logged :]:
            run.log(int(report["epoch"]), metrics(report))
            run.logged += 1
        if record.status in ENDED:
            if not run.ended:
                run.end(record)
        elif record.status == "WAITING":
            run.pause()
        else:
            self.open[record.name] = run

    def pause(self) -> None:
        """Close the tracked runs of all trials that have not ended."""
        while self.open:
            self.open.popitem()[1].pause()
