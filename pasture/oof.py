"""The out-of-fold (OOF) table: a trial's predictions for images that its models were not trained on, as Parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.files import Folder
from pasture.parquet import read_parquet, write_parquet
from pasture.targets import TARGETS, Array

_METADATA_KEY = b"forage"
_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("fold", pa.int8(), nullable=False),
        pa.field("d4", pa.int8(), nullable=False),
        *(pa.field(target, pa.float32(), nullable=False) for target in TARGETS),
    ]
)

Origin = Literal["start", "search", "confirm"]
"""Where a trial comes from: the recipes that run before the search, the search, or a good trial that runs again with
other seeds."""


@dataclass(frozen=True)
class OofTable:
    """OOF predictions of one trial.

    Attributes:
        image_ids: n ids.
        folds: (n,) the fold in which each image was held out.
        predictions: (n, e, 5) in grams, one for each of the first e elements of the D4 group (e is 1 or 8).
        metadata: JSON object: trial, recipe, score, epoch, curve, data fingerprint, versions.
    """

    image_ids: list[str]
    folds: NDArray[np.int8]
    predictions: Array
    metadata: dict[str, Any]

    def mean(self, elements: tuple[int, ...]) -> Array:
        """(n, 5) mean over some elements of the D4 group, in grams."""
        return np.asarray(self.predictions[:, list(elements)].mean(axis=1))

    def write(self, folder: Folder, name: str) -> None:
        """Write atomically as Parquet: one row an image and element.

        Raises:
            JobError: the file cannot be written.
        """
        n, elements, _ = self.predictions.shape
        columns: dict[str, Any] = {
            "image_id": np.repeat(np.asarray(self.image_ids, dtype=object), elements),
            "fold": np.repeat(self.folds, elements),
            "d4": np.tile(np.arange(elements, dtype=np.int8), n),
        }
        flat = self.predictions.reshape(-1, len(TARGETS)).astype(np.float32)
        columns |= {target: flat[:, i] for i, target in enumerate(TARGETS)}
        schema = _SCHEMA.with_metadata({_METADATA_KEY: json.dumps(self.metadata).encode()})
        write_parquet(folder, name, pa.table(columns, schema=schema))

    @classmethod
    def read(cls, folder: Folder, name: str) -> OofTable:
        """Read and check a table that `write` wrote.

        Raises:
            InputError: no such file, damaged, other columns, NaN, an image twice or without all its elements,
                no metadata.
        """
        source = folder / name
        table = read_parquet(folder, name)
        if not table.schema.equals(_SCHEMA):
            raise InputError(f"{source}: columns {_described(table.schema)}, expected {_described(_SCHEMA)}")
        d4 = table["d4"].to_numpy()
        elements = int(d4.max(initial=-1)) + 1
        ids = table["image_id"].to_pylist()
        whole = elements > 0 and len(ids) % elements == 0
        if not whole or (d4.reshape(-1, elements) != np.arange(elements)).any():
            raise InputError(f"{source}: some images lack elements of the D4 group; the file is incomplete")
        flat = np.column_stack([table[target].to_numpy() for target in TARGETS]).astype(np.float64)
        if not np.isfinite(flat).all():
            raise InputError(f"{source}: predictions hold NaN or infinity")
        image_ids = ids[::elements]
        if ids != [image_id for image_id in image_ids for _ in range(elements)]:
            raise InputError(f"{source}: the rows of an image are not together; the file is not in order")
        if len(set(image_ids)) != len(image_ids):
            raise InputError(f"{source}: an image appears twice")
        try:
            metadata = json.loads(table.schema.metadata[_METADATA_KEY])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{source}: metadata damaged or missing ({error})") from None
        folds = table["fold"].to_numpy()[::elements].astype(np.int8)
        return cls(image_ids, folds, flat.reshape(len(image_ids), elements, len(TARGETS)), metadata)


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}{'?' if field.nullable else ''}" for field in schema)
