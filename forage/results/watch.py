"""A sweep that another process runs, as a table that is drawn again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from rich.console import RenderableType
from rich.table import Table

from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger, Record
from tune.records.lock import driver_at_work
from tune.records.plan import Plan
from tune.records.preparation import Preparation, read_preparations

QUIET_SECONDS: Final = 60.0
"""A running trial without a report for so long is marked."""


class Watched:
    """The state of a run as it was last read.

    Args:
        run: the run directory, also of a remote sweep.
        clock: seconds that only grow.
    """

    def __init__(self, run: RunFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self.run, self.clock = run, clock
        self.plan = Plan.read(run)
        self.seen: dict[str, tuple[int, Preparation | None, float]] = {}
        self.read()

    def read(self) -> None:
        """Read the ledger again."""
        self.plan, self.ledger = Plan.read(self.run), Ledger(self.run)
        running = self.ledger.with_status("RUNNING")
        self.preparations = read_preparations(self.run, running)
        for record in running:
            state = len(record.curve), self.preparations.get(record.name)
            if self.seen.get(record.name, ())[:2] != state:
                self.seen[record.name] = *state, self.clock()
        self.at_work = driver_at_work(self.run)

    @property
    def over(self) -> bool:
        """Whether no trial is left to run."""
        total = self.plan.trials + self.plan.confirm
        return len(self.ledger.ended()) >= total

    def table(self) -> Table:
        """Running trials, counts, the best so far, and when the sweep may end."""
        ledger = self.ledger
        best = ledger.best()
        counts = {s: len(ledger.with_status(s)) for s in ("COMPLETE", "PRUNED", "FAILED", "WAITING", "RUNNING")}
        shown = "   ".join(f"{status.lower()} {count}" for status, count in counts.items())
        table = Table(
            title=f"{self.run.name}: {len(ledger.ended())} of {self.plan.trials} trials, {self._remaining()}",
            caption=f"{shown}   best {f'{best.score:.4f} by {best.name}' if best else 'none yet'}",
            title_justify="left",
            caption_justify="left",
        )
        for column in ("trial", "backbone", "epoch", "score", "images/s", "s/epoch", "waited", "node", "last report"):
            table.add_column(column, justify="left" if column in ("trial", "backbone", "node") else "right")
        for record in ledger.with_status("RUNNING"):
            table.add_row(*self._row(record))
        return table

    def _row(self, record: Record) -> list[RenderableType]:
        last = record.curve[-1] if record.curve else None
        quiet = self.clock() - self.seen[record.name][2]
        mark = " (quiet)" if quiet > QUIET_SECONDS else ""
        return [
            record.name,
            str(record.recipe["backbone"]["name"]),
            f"{len(record.curve)}/{record.recipe['schedule']['epochs']}",
            self.preparations.get(record.name) or (f"{last['score']:.4f}" if last else "first epoch"),
            f"{last['images_per_second']:.0f}" if last and "images_per_second" in last else "",
            f"{last['seconds']:.1f}" if last else "",
            "" if record.waited is None else f"{record.waited:.0f} s",
            record.where,
            f"{quiet:.0f} s{mark}",
        ]

    def _remaining(self) -> str:
        """Mean time of the trials that have ended, for those that have not, on as many workers as run now."""
        ended, running = self.ledger.ended(), self.ledger.with_status("RUNNING")
        took = [sum(report["seconds"] for report in record.curve) for record in ended if record.curve]
        left = max(0, self.plan.trials + self.plan.confirm - len(ended))
        if not left:
            return "over"
        if self.at_work is False:
            return "no process runs it; forage resume goes on with it"
        if not running:
            return "none running"
        if not took or self.preparations:  # the seconds of ended trials leave out decoding and features
            return "ETA unknown"
        seconds = sum(took) / len(took) * left / len(running)
        return f"ETA about {timedelta(seconds=round(seconds))}"
