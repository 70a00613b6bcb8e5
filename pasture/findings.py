"""Collecting what is wrong with a data folder, so that all of it can be reported at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pasture.errors import DataError


class Findings:
    """Errors found so far in a data folder, one line each, in `lines`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Add one error."""
        self.lines.append(line)

    def add_rows(self, source: Path, table: pd.DataFrame, bad: pd.Series, message: str) -> None:
        """Add one error if any row is bad: the first of them, by its line in the file, and how many more there are.

        Args:
            source: the file.
            table: its rows, indexed by line number.
            bad: True for a bad row; index as in `table`.
            message: what is wrong with a row, with column names in braces for its values.
        """
        positions = np.flatnonzero(bad)
        if len(positions):
            row = {str(column): value for column, value in table.iloc[positions[0]].items()}
            more = f" (and {len(positions) - 1} more rows)" if len(positions) > 1 else ""
            self.add(f"{source}, line {table.index[positions[0]]}: {message.format(**row)}{more}")

    def raise_if_any(self) -> None:
        """Raise a `DataError` with all errors, if there are any."""
        if self.lines:
            raise DataError(self.lines)
