"""Trackers that follow a sweep, each in a thread of its own: a slow server or an error must not hold up the sweep."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger, Record
from tune.records.plan import TrackerName
from tune.trackers.choose import open_tracker
from tune.trackers.tracker import ENDED, Follower, Tracker

Say = Callable[[str], None]

CLOSE_SECONDS: Final = 60.0
"""How long the end of a session waits for a tracker that still has something to send."""


class LiveTrackers:
    """Passes the records of a sweep to its trackers.

    Trials of earlier sessions are passed on too, so that a tracker gets what it could not get then.

    Args:
        names: which trackers.
        run: the run directory.
        ledger: its trials so far.
        say: prints a line; called once for a tracker that fails, which then stops.
    """

    def __init__(self, names: Sequence[TrackerName], run: RunFolder, ledger: Ledger, say: Say) -> None:
        self.ledger = ledger
        self.threads = [_TrackerThread(name, run, say) for name in names]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        for record in self.ledger.with_status(*ENDED, "WAITING"):
            self.watch(record)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for thread in self.threads:
            thread.records.put(None)
        for thread in self.threads:
            thread.close()

    def watch(self, record: Record) -> None:
        """Take note of an event of a trial."""
        for thread in self.threads:
            if thread.is_alive():
                thread.records.put(replace(record, curve=list(record.curve)))  # the sweep goes on changing the record


class _TrackerThread(threading.Thread):
    def __init__(self, name: TrackerName, run: RunFolder, say: Say) -> None:
        super().__init__(name=f"forage-{name}", daemon=True)
        self.tracker, self.run_folder, self.say = name, run, say
        self.records: queue.Queue[Record | None] = queue.Queue()

    def run(self) -> None:
        try:
            self._work(open_tracker(self.tracker, self.run_folder))
        except Exception as error:  # whatever a package or a server does, the sweep goes on
            words = " ".join(str(error).split())[:200] or type(error).__name__
            self.say(
                f"warning: --track {self.tracker} has stopped, the sweep goes on ({words}); `forage resume "
                f"{self.run_folder}` writes what is missing"
            )

    def close(self) -> None:
        self.join(CLOSE_SECONDS)
        if self.is_alive():
            self.say(f"warning: --track {self.tracker} did not end in {CLOSE_SECONDS:.0f} s; epochs are missing")

    def _work(self, tracker: Tracker) -> None:
        follower = Follower(tracker)
        while (record := self.records.get()) is not None:
            follower.follow(record)
        follower.pause()
