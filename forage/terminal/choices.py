"""Words that the command line offers: file formats and such. Light to import."""

from __future__ import annotations

from typing import Final, Literal

FigureFormat = Literal["svg", "png", "pdf"]
TableFormat = Literal["optuna", "csv", "parquet"]
TrackerFormat = Literal["mlflow", "tensorboard"]
ExportFormat = Literal["optuna", "csv", "parquet", "mlflow", "tensorboard"]
Against = Literal["first", "best"]
"""The result that `forage compare` compares the others with."""
SUFFIXES: Final[dict[TableFormat, str]] = {"optuna": ".db", "csv": ".csv", "parquet": ".parquet"}
"""Of the file that `forage export` writes by default."""
