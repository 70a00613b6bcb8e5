"""Names of file formats. Light to import, because the command line offers them."""

from __future__ import annotations

from typing import Final, Literal

FigureFormat = Literal["svg", "png", "pdf"]
TableFormat = Literal["optuna", "csv", "parquet"]
SUFFIXES: Final[dict[TableFormat, str]] = {"optuna": ".db", "csv": ".csv", "parquet": ".parquet"}
"""Of the file that `forage export` writes by default."""
