"""A CSV file for each trial, with a row for each epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from pasture.files import Folder
from tune.records.ledger import Record
from tune.trackers.names import METRICS


class CsvTracker:
    """Writes `<trial>.csv` with the columns trial, epoch and `METRICS`.

    Args:
        folder: to write to, also on an object store.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def begin(self, record: Record) -> CsvRun:
        """A file that is written anew, so that it holds every epoch once."""
        return CsvRun(self.folder, record.name)


class CsvRun:
    """The file of one trial, written as a whole after every epoch."""

    def __init__(self, folder: Folder, trial: str) -> None:
        self.folder, self.trial = folder, trial
        self.logged, self.ended = 0, False
        self.text = io.StringIO()
        self.rows = csv.DictWriter(self.text, ["trial", "epoch", *METRICS], lineterminator="\n")
        self.rows.writeheader()

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add a row and write the file."""
        self.rows.writerow({"trial": self.trial, "epoch": epoch, **values})
        self.folder.write(f"{self.trial}.csv", self.text.getvalue().encode())

    def end(self, record: Record) -> None:
        """Does nothing: trials.parquet has the outcome."""

    def pause(self) -> None:
        """Does nothing."""
