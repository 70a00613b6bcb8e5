"""A table of trained recipes: curves, OOF and predictions for outer dates, as one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.files import Folder
from pasture.parquet import read_parquet, write_parquet
from pasture.targets import TARGETS, Array
from search_spaces.parameter import Label
from search_spaces.space import Space

_METADATA: Final = b"forage_replay"
_COLUMNS: Final = ("split", "recipe", "scores", "seconds", "date_losses", "oof", "outer")


@dataclass(frozen=True)
class Entry:
    """A recipe of the table.

    Attributes:
        labels: of the searched fields, as the space draws them.
        recipe: as nested plain values.
        start: whether it belongs to the start portfolio of the space.
    """

    labels: dict[str, Label]
    recipe: dict[str, Any]
    start: bool

    @property
    def backbone(self) -> str:
        """Name of its backbone."""
        return str(self.recipe["backbone"]["name"])


@dataclass(frozen=True, eq=False)
class Trained:
    """One recipe, trained without the outer dates of one split.

    Attributes:
        scores: (epochs,) score that the trial reported after each epoch.
        seconds: (epochs,) that each epoch took.
        date_losses: (epochs, dates) weighted residual sum of squares of the OOF of each epoch on each date, in grams
            squared, dates sorted.
        oof: (n, 5) OOF predictions at the end, in grams.
        outer: (n_outer, 5) predictions for the images of outer dates at the end, in grams.
    """

    scores: Array
    seconds: Array
    date_losses: Array
    oof: Array
    outer: Array


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split, and what every recipe of the table did there.

    Attributes:
        truth: (n, 5) of the images that sweeps see, in grams.
        dates: (n,) their dates.
        outer_truth: (n_outer, 5) of the images of outer dates.
        trained: one for each recipe of the table; None where it has failed.
    """

    truth: Array
    dates: NDArray[np.str_]
    outer_truth: Array
    trained: list[Trained | None]


@dataclass(frozen=True, eq=False)
class Table:
    """All recipes on all splits.

    Attributes:
        space: that the recipes were drawn from.
        entries: the recipes.
        splits: one for each group of outer dates.
    """

    space: Space
    entries: list[Entry]
    splits: list[Split]

    def write(self, path: Path) -> None:
        """Write a Parquet file; predictions in half precision.

        Raises:
            StorageError: the file cannot be written.
        """
        rows = [
            (split, number, trained)
            for split, content in enumerate(self.splits)
            for number, trained in enumerate(content.trained)
            if trained is not None
        ]
        columns = {
            "split": pa.array([row[0] for row in rows], pa.int16()),
            "recipe": pa.array([row[1] for row in rows], pa.int32()),
            "scores": _lists((row[2].scores for row in rows), np.float32),
            "seconds": _lists((row[2].seconds for row in rows), np.float32),
            "date_losses": _lists((row[2].date_losses for row in rows), np.float32),
            "oof": _lists((row[2].oof for row in rows), np.float16),
            "outer": _lists((row[2].outer for row in rows), np.float16),
        }
        content = {
            "space": self.space.to_dict(),
            "entries": [vars(entry) for entry in self.entries],
            "splits": [
                {"truth": s.truth.tolist(), "dates": s.dates.tolist(), "outer_truth": s.outer_truth.tolist()}
                for s in self.splits
            ],
        }
        schema_metadata = {_METADATA: json.dumps(content).encode()}
        write_parquet(Folder.at(path.parent), path.name, pa.table(columns).replace_schema_metadata(schema_metadata))

    @classmethod
    def read(cls, path: Path) -> Table:
        """Read a table that `write` wrote.

        Raises:
            InputError: no such file, damaged, or another Parquet file.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected a table that `forage tabulate` wrote")
        read = read_parquet(Folder.at(path.parent), path.name)
        if _METADATA not in (read.schema.metadata or {}) or read.schema.names != [*_COLUMNS]:
            raise InputError(f"{path}: not a table that `forage tabulate` wrote")
        content = json.loads(read.schema.metadata[_METADATA])
        entries = [Entry(**entry) for entry in content["entries"]]
        splits = [
            Split(np.array(s["truth"]), np.array(s["dates"]), np.array(s["outer_truth"]), [None] * len(entries))
            for s in content["splits"]
        ]
        for row in range(read.num_rows):
            values = {name: read[name][row] for name in _COLUMNS}
            scores = _values(values["scores"])
            splits[values["split"].as_py()].trained[values["recipe"].as_py()] = Trained(
                scores=scores,
                seconds=_values(values["seconds"]),
                date_losses=_values(values["date_losses"]).reshape(len(scores), -1),
                oof=_values(values["oof"]).reshape(-1, len(TARGETS)),
                outer=_values(values["outer"]).reshape(-1, len(TARGETS)),
            )
        return cls(Space.parse(content["space"], str(path)), entries, splits)


def _lists(arrays: Iterable[Array], dtype: type[np.floating[Any]]) -> pa.Array:
    flat = [array.astype(dtype).ravel() for array in arrays]
    offsets = np.concatenate([[0], np.cumsum([len(array) for array in flat])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(flat) if flat else np.empty(0, dtype)))


def _values(cell: Any) -> Array:
    return np.asarray(cell.values.to_numpy(zero_copy_only=False), dtype=np.float64)
