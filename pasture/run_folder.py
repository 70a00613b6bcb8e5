"""The layout of a run directory, and reading and writing the files that several packages share."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import yaml

from pasture.checksum import add_checksum, remove_checksum
from pasture.errors import InputError
from pasture.files import Folder
from pasture.format_number import take_format
from pasture.oof import OofTable
from pasture.parquet import read_parquet, write_parquet
from pasture.targets import TARGETS

if TYPE_CHECKING:
    import pandas as pd

    from pasture.dataset import Dataset

FORMAT: Final = 1
"""Of run directories."""


class RunFolder:
    """A run directory on any pyarrow filesystem.

    sweep.yaml                          the sweep's settings: format, data, space, limits, fingerprint, versions
    truth.parquet                       image_id, date and the five weights, so that blending needs no data folder
    trials/<trial>.json                 recipe, status and reports of each trial: the state that `resume` reads
    trials.parquet                      the same as one table
    oof/<trial>.parquet                 OOF of the trial's epoch, all D4 elements
    outer/<trial>.parquet               predictions for the images of outer dates, where a sweep holds dates out
    refitted/<trial>.parquet            the same by one model trained on all images of the other dates
    epochs/<trial>.npz                  OOF of every epoch, not augmented, for the nested estimate
    weights/<trial>/fold<k>.safetensors what differs from the pretrained backbone
    checkpoints/<trial>.pt              a trial under way
    banks/<name>.safetensors            imported feature banks
    features/                           feature banks under way, where a cluster has several nodes
    preparations/<trial>.json           how far a running trial is with its features, before its first epoch
    trackers/                           what live tracking writes: event files, CSV, an MLflow store, W&B runs
    retired/<trial>.parquet             OOF of a trial whose weights were not kept
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.folder = Folder.at(location)

    @property
    def name(self) -> str:
        """The run's name: the folder's."""
        return self.folder.name

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def external(self) -> bool:
        """Whether this folder holds members of other tools instead of a sweep."""
        swept = self.folder.exists("sweep.yaml") or self.trials.names(".json")
        return not swept and bool(self.oof.names(".parquet"))

    @property
    def oof(self) -> Folder:
        """Folder of the OOF tables."""
        return self.folder / "oof"

    @property
    def outer(self) -> Folder:
        """Folder of the predictions for outer dates."""
        return self.folder / "outer"

    @property
    def refitted(self) -> Folder:
        """Folder of the predictions for outer dates by models that were trained on all images of the other dates."""
        return self.folder / "refitted"

    @property
    def epochs(self) -> Folder:
        """Folder of the OOF of every epoch."""
        return self.folder / "epochs"

    @property
    def checkpoints(self) -> Folder:
        """Folder of the trials under way."""
        return self.folder / "checkpoints"

    @property
    def banks(self) -> Folder:
        """Folder of the imported feature banks that recipes name."""
        return self.folder / "banks"

    @property
    def features(self) -> Folder:
        """Folder of feature banks that the nodes of a cluster compute together."""
        return self.folder / "features"

    @property
    def preparations(self) -> Folder:
        """Folder of what running trials do before their first epoch."""
        return self.folder / "preparations"

    @property
    def retired(self) -> Folder:
        """Folder of the OOF tables of trials that have lost their weights."""
        return self.folder / "retired"

    @property
    def trials(self) -> Folder:
        """Folder of the trials' records."""
        return self.folder / "trials"

    @property
    def trackers(self) -> Folder:
        """Folder of what live tracking writes."""
        return self.folder / "trackers"

    def weights(self, trial: str) -> Folder:
        """Folder of a trial's fold weights."""
        return self.folder / "weights" / trial

    def read_sweep(self) -> dict[str, Any]:
        """The content of sweep.yaml.

        Raises:
            InputError: this is no run directory, one of a newer forage, or the file is damaged.
        """
        if self.external:
            raise InputError(
                f"{self}: holds imported members, not a sweep, so this command cannot use it; blend them with "
                f"`forage ensemble {self} --out BLEND`"
            )
        if not self.folder.exists("sweep.yaml"):
            raise InputError(f"{self}: not a run directory (no sweep.yaml); give a folder that `forage sweep` wrote")
        try:
            content = yaml.safe_load(remove_checksum(self.folder.read("sweep.yaml")))
        except (ValueError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self}/sweep.yaml: damaged, or edited by hand ({reason}); limits are changed with `forage resume`"
            ) from None
        if not isinstance(content, dict):
            raise InputError(f"{self}/sweep.yaml: damaged (expected a mapping)")
        take_format(content, FORMAT, f"{self}/sweep.yaml")
        return content

    def write_sweep(self, content: dict[str, Any]) -> None:
        """Write sweep.yaml, with the format number of the run directory."""
        text = yaml.safe_dump({"format": FORMAT, **content}, sort_keys=False, allow_unicode=True)
        self.folder.write("sweep.yaml", add_checksum(text.encode()))

    def write_truth(self, dataset: Dataset) -> None:
        """Write truth.parquet from the images that are scored."""
        import pandas as pd  # here and below only: commands that read no table answer at once

        table = pd.DataFrame({"image_id": dataset.ids, "date": dataset.dates})
        table[list(TARGETS)] = dataset.targets
        table = table[dataset.scored]
        write_parquet(self.folder, "truth.parquet", pa.Table.from_pandas(table, preserve_index=False))

    def read_truth(self) -> pd.DataFrame:
        """Index image_id; columns date and the five targets in grams.

        Raises:
            InputError: no such file, damaged, or other columns.
        """
        import pandas as pd

        table = read_parquet(self.folder, "truth.parquet")
        if table.schema.names != (expected := ["image_id", "date", *TARGETS]):
            raise InputError(f"{self}/truth.parquet: columns {table.schema.names}, expected {expected}")
        return pd.DataFrame(table.to_pandas()).set_index("image_id")

    def read_oof(self, trial: str) -> OofTable:
        """A trial's OOF table."""
        return OofTable.read(self.oof, f"{trial}.parquet")

    def write_epochs(self, trial: str, epochs: np.ndarray) -> None:
        """Write the plain OOF of every epoch, (epochs, n, 5) in grams, rows as in the trial's OOF table."""
        sink = io.BytesIO()
        np.savez_compressed(sink, predictions=epochs.astype(np.float32))
        self.epochs.write(f"{trial}.npz", sink.getvalue())

    def read_epochs(self, trial: str) -> np.ndarray | None:
        """(epochs, n, 5) in grams, or None where a trial has none.

        Raises:
            InputError: the file is damaged.
        """
        name = f"{trial}.npz"
        if not self.epochs.exists(name):
            return None
        content = self.epochs.read(name)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                return np.asarray(archive["predictions"], dtype=np.float64)
        except Exception as error:  # damaged bytes raise whatever zipfile, zlib and numpy stumble over
            raise InputError(f"{self}/epochs/{name}: damaged ({error})") from None
