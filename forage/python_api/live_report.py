"""The page of a run while its sweep goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pasture.run_folder import RunFolder
    from tune.records.ledger import Record

EVERY_SECONDS: Final = 60.0
"""Shortest time between two writes of the page."""

SHARE: Final = 0.02
"""Largest share of the time that writing the page may take: the page of a long sweep takes seconds."""


class LiveReport:
    """Writes report.html in a thread of its own after a trial has ended, if the last time was long enough ago.

    Args:
        run: the run directory; the page is made from its files alone.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.due = time.monotonic() + EVERY_SECONDS
        self.thread: threading.Thread | None = None

    def watch(self, record: Record) -> None:
        """To be called after every event of a trial."""
        writing = self.thread is not None and self.thread.is_alive()
        if record.status in ("RUNNING", "PENDING") or writing or time.monotonic() < self.due:
            return
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()

    def write(self) -> None:
        """Write the page. If that fails, nothing is said: the page at the end of the sweep says what is wrong."""
        from forage.pages.report import attempt, write_run_report

        start = time.monotonic()
        attempt(lambda: write_run_report(self.run), lambda _: None)
        took = time.monotonic() - start
        self.due = start + max(EVERY_SECONDS, took / SHARE)

    def finish(self) -> None:
        """Bring a page that was written during the sweep up to date."""
        if self.thread is not None:
            self.thread.join()
            self.write()


@contextmanager
def live_report(run: RunFolder) -> Iterator[Callable[[Record], None]]:
    """Yield the callback of a `LiveReport`, which ends with the sweep."""
    report = LiveReport(run)
    try:
        yield report.watch
    finally:
        report.finish()
