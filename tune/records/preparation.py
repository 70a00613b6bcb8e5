"""The step that a trial is at before its next epoch, such as computing features: workers write it, tables show it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from rich.progress_bar import ProgressBar
from rich.table import Table

from pasture.errors import ForageError, StorageError

if TYPE_CHECKING:
    from pasture.run_folder import RunFolder
    from tune.records.ledger import Record

WRITE_SECONDS: Final = 2.0
"""Shortest time between two writes of the same step by a worker."""

_BAR_WIDTH: Final = 12


@dataclass(frozen=True)
class Preparation:
    """How far a trial is with a step before its next epoch.

    Attributes:
        step: `decoding` or `features`.
        done: number of photographs done.
        total: number of photographs in all.
        epochs: number of epochs that the driver knew when the worker began. A trial that has reported more since is
            past this step: the file is left over from a worker that was killed.
    """

    step: str
    done: int
    total: int
    epochs: int

    def __rich__(self) -> Table:
        """The step, a bar and the percentage."""
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            self.step,
            ProgressBar(self.total, self.done, width=_BAR_WIDTH),
            f"{100 * self.done // self.total} %",
        )
        return grid


class PreparationWriter:
    """A progress callback that writes to the run directory, at most every WRITE_SECONDS, and cleans up after a step.

    Args:
        run: the run directory.
        trial: name of the trial; fold workers of one trial write the same file.
        epochs: number of epochs that the driver has reports of.
    """

    def __init__(self, run: RunFolder, trial: str, epochs: int) -> None:
        self.run, self.trial, self.epochs = run, trial, epochs
        self.steps: dict[str, Preparation] = {}  # a step may begin within another: decoding within features
        self.written = 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        """Write where a step is."""
        before = list(self.steps)
        if done < total:
            self.steps[step] = Preparation(step, done, total, self.epochs)
        else:
            self.steps.pop(step, None)
        if list(self.steps) != before or (self.steps and time.monotonic() - self.written > WRITE_SECONDS):
            self._write()

    def _write(self) -> None:
        self.written, name = time.monotonic(), f"{self.trial}.json"
        with suppress(StorageError):  # only a display; the trial meets a full disk where it matters
            if self.steps:
                latest = next(reversed(self.steps.values()))
                self.run.preparations.write(name, json.dumps(asdict(latest)).encode())
            else:
                self.run.preparations.delete(name)


def read_preparations(run: RunFolder, running: Sequence[Record]) -> dict[str, Preparation]:
    """Steps that running trials are at before their next epoch, by name of the trial; a trial that trains has none."""
    names = set(run.preparations.names(".json"))
    at_work = [record for record in running if f"{record.name}.json" in names]
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda record: _read(run, record), at_work)
        return {record.name: each for record, each in zip(at_work, found, strict=True) if each}


def _read(run: RunFolder, record: Record) -> Preparation | None:
    with suppress(ForageError, ValueError, TypeError):  # deleted since, or damaged
        found = Preparation(**json.loads(run.preparations.read(f"{record.name}.json")))
        if found.epochs == len(record.curve):
            return found
    return None


@contextmanager
def no_preparations_left(run: RunFolder) -> Iterator[None]:
    """Delete the files that an earlier session has left, and at the end those of this session."""
    run.preparations.clear()
    try:
        yield
    finally:
        with suppress(StorageError):
            run.preparations.clear()
