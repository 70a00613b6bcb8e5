"""Progress of a sweep: a live table on a terminal or in a notebook, otherwise a line an event on standard error."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pasture.errors import StorageError
from tune.records.ledger import Ledger, Record
from tune.records.notebook import Cell
from tune.records.preparation import WRITE_SECONDS, Preparation, read_preparations

_REFRESH_SECONDS = 0.25

_TICK_SECONDS = 1.0
"""Time between two drawings of the table while nothing is reported."""

_READ_SHARE = 0.05
"""Largest share of the driver's time that reading the files of `tune.records.preparation` may take."""


class Progress:
    """Shows the state of a ledger on standard error.

    Args:
        ledger: the records to show.
        total: number of trials of the sweep.
        epochs: of a whole trial.
        title: name of the run.
    """

    def __init__(self, ledger: Ledger, total: int, epochs: int, title: str) -> None:
        self.ledger, self.total, self.epochs, self.title = ledger, total, epochs, title
        self.console = Console(stderr=True, highlight=False)
        self.live = _live(self.console)
        self.started = time.monotonic()
        self.shown = 0.0
        self.preparations: dict[str, Preparation] = {}
        self.read_again = 0.0
        self.ended_before = self._ended()

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
            self.live.update(self._table(), refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.live:
            self.live.update(self._table(), refresh=True)
            self.live.stop()

    def watch(self, record: Record) -> None:
        """Show an event of a trial."""
        if self.live is None:
            if record.status != "RUNNING":
                self.say(self._line(record))
        elif time.monotonic() - self.shown > _REFRESH_SECONDS or record.status != "RUNNING":
            self.live.update(self._table(), refresh=True)
            self.shown = time.monotonic()

    def tick(self) -> None:
        """Let the clock and the bars go on while nothing is reported; to be called often."""
        now = time.monotonic()
        if self.live is None or now - self.shown < _TICK_SECONDS:
            return
        if now > self.read_again:
            with suppress(StorageError):  # only a display
                self.preparations = read_preparations(self.ledger.run, self.ledger.with_status("RUNNING"))
            self.read_again = now + max(WRITE_SECONDS, (time.monotonic() - now) / _READ_SHARE)
        self.live.update(self._table(), refresh=True)
        self.shown = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that is not about a single trial."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _line(self, record: Record) -> str:
        score = f"{record.score:.4f}" if record.score is not None else "-"
        best = self.ledger.best()
        parts = [
            f"[{self._ended()}/{self.total}]",
            record.name,
            record.status.lower(),
            f"epochs {len(record.curve)}/{self.epochs}",
            f"score {score}",
        ]
        if best:
            parts.append(f"best {best.score:.4f} by {best.name}")
        if record.error:
            parts.append(record.error)
        return "  ".join([*parts, f"ETA {self._eta()}"])

    def _table(self) -> Table:
        best = self.ledger.best()
        counts = {s: len(self.ledger.with_status(s)) for s in ("COMPLETE", "RUNNING", "WAITING", "PRUNED", "FAILED")}
        shown = "   ".join(f"{s.lower()} {count}" for s, count in counts.items() if count or s != "WAITING")
        elapsed = _clock(time.monotonic() - self.started)
        table = Table(
            title=f"{self.title}: {self._ended()} of {self.total} trials, {elapsed} so far, ETA {self._eta()}",
            caption=f"{shown}   best {f'{best.score:.4f} by {best.name}' if best else 'none yet'}",
            title_justify="left",
            caption_justify="left",
            expand=True,
        )
        for column in ("trial", "backbone", "epoch", "score", "images/s"):
            table.add_column(column, justify="left" if column in ("trial", "backbone") else "right")
        for record in self.ledger.with_status("RUNNING"):
            last = record.curve[-1] if record.curve else None
            score = f"{last['score']:.4f}" if last else "starting"
            preparation = self.preparations.get(record.name)  # read some seconds ago: an epoch may have ended since
            table.add_row(
                record.name,
                record.recipe["backbone"]["name"],
                f"{len(record.curve)}/{self.epochs}",
                preparation if preparation and preparation.epochs == len(record.curve) else score,
                f"{last['images_per_second']:.0f}" if last else "",
            )
        return table

    def _ended(self) -> int:
        return len(self.ledger.ended())

    def _eta(self) -> str:
        ended = self._ended() - self.ended_before
        if not ended:
            return "unknown"
        return _clock((time.monotonic() - self.started) / ended * (self.total - self._ended()))


def _live(console: Console) -> Live | Cell | None:
    if console.is_jupyter:
        return Cell()
    return Live(console=console, auto_refresh=False) if console.is_terminal else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
