"""Reading a data folder in the competition's layout: one row an image, checked before anything is trained."""

from __future__ import annotations

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from pasture.errors import InputError
from pasture.metric import baseline_r2
from pasture.targets import TARGETS, Array, balance_gap

BALANCE_TOLERANCE_G = 0.01

_METADATA = {
    "Sampling_Date": "date",
    "State": "state",
    "Species": "species",
    "Pre_GSHH_NDVI": "ndvi",
    "Height_Ave_cm": "height_cm",
}
PSEUDO_WEIGHT = "Pseudo_Weight"
"""Optional column of train.csv: how much a pseudo-label counts, a number in (0, 1]; empty in measured rows."""

_TRAIN_COLUMNS = ("sample_id", "image_path", *_METADATA, "target_name", "target")
_TEST_COLUMNS = ("sample_id", "image_path", "target_name")


@dataclass(frozen=True)
class Dataset:
    """Photographs, one row an image.

    Attributes:
        root: the data folder.
        images: index `image_id`; `image_path`, relative to `root`; for labelled data also date, state, species,
            ndvi, height_cm and the five target columns in grams. Where targets are pseudo-labels, `pseudo_weight` is a
            number in (0, 1], and the metadata may be missing; NaN or no such column where they were measured.
    """

    root: Path
    images: pd.DataFrame

    @property
    def ids(self) -> list[str]:
        """Image ids, in the order of every array made from this dataset."""
        return [str(i) for i in self.images.index]

    @property
    def paths(self) -> list[Path]:
        """Absolute path of each photograph."""
        return [self.root / p for p in self.images["image_path"]]

    @property
    def targets(self) -> Array:
        """(n, 5) dry weights in grams."""
        return self.images[list(TARGETS)].to_numpy(dtype=np.float64)

    @property
    def dates(self) -> np.ndarray:
        """(n,) sampling date of each image as a string: the groups of every honest split. Empty where unknown."""
        return np.asarray(self.images["date"].dt.strftime("%Y-%m-%d").fillna(""), dtype=str)

    @property
    def measured(self) -> np.ndarray:
        """(n,) False for an image whose targets are pseudo-labels: it may be trained on, never judged on."""
        return np.asarray(self._pseudo_weight.isna())

    @property
    def pseudo_weights(self) -> Array:
        """(n,) how much the targets of each image count in training; 1 for a measured image."""
        return self._pseudo_weight.fillna(1.0).to_numpy(dtype=np.float64)

    @property
    def _pseudo_weight(self) -> pd.Series:
        return self.images.get("pseudo_weight", pd.Series(np.nan, index=self.images.index))

    def __len__(self) -> int:
        return len(self.images)

    def baseline(self) -> float:
        """Score of predicting each target's mean on the measured images."""
        return baseline_r2(self.targets[self.measured])


def read_train(root: str | os.PathLike[str], name: str = "train.csv") -> Dataset:
    """Read and check `train.csv` of a data folder. Pictures are not opened: see `verify_pictures`.

    Rows are joined by image id, never by their order. A row that breaks the mass balance by more than
    0.01 g is reported as a warning. With a column `Pseudo_Weight`, rows that have one are pseudo-labelled.

    Raises:
        InputError: naming file, row and reason.
    """
    root, table = _read_csv(root, name, _TRAIN_COLUMNS)
    source = root / name
    if PSEUDO_WEIGHT not in table.columns:
        table[PSEUDO_WEIGHT] = ""
    pseudo = table[PSEUDO_WEIGHT] != ""
    values = pd.to_numeric(table["target"], errors="coerce").astype(float)
    _refuse(source, table, ~values.map(np.isfinite), "target {target!r} is not a finite number of grams")
    _refuse(source, table, values < 0, "target {target!r} is negative; a dry weight is at least 0 g")
    # Without a year pandas would fill in today's: "10:00" is no date.
    dated = table["Sampling_Date"].where(table["Sampling_Date"].str.contains(r"\d{4}"))
    dates = pd.to_datetime(dated, errors="coerce", format="mixed")
    undated = dates.isna() & ~(pseudo & (table["Sampling_Date"] == ""))
    _refuse(source, table, undated, "Sampling_Date {Sampling_Date!r} is not a date such as 2015/9/4")
    table = table.assign(target=values, Sampling_Date=dates)
    for column in ("Pre_GSHH_NDVI", "Height_Ave_cm", PSEUDO_WEIGHT):
        numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
        _refuse(source, table, numbers.isna() & (table[column] != ""), f"{column} {{{column}!r}} is not a number")
        table[column] = numbers
    outside = ~table[PSEUDO_WEIGHT].between(0, 1, inclusive="right")
    _refuse(source, table, pseudo & outside, f"{PSEUDO_WEIGHT} {{{PSEUDO_WEIGHT}}} is not in (0, 1]")
    if pseudo.all():
        raise InputError(f"{source}: every image is pseudo-labelled; measured ones are needed to judge models on")

    columns = _METADATA | {PSEUDO_WEIGHT: "pseudo_weight"}
    images = _one_row_an_image(source, table, [*columns]).rename(columns=columns)
    targets = table.pivot(index="image_id", columns="target_name", values="target")
    missing = targets.reindex(columns=list(TARGETS)).isna().to_numpy()
    if missing.any():
        row, column = np.argwhere(missing)[0]
        image, target = targets.index[row], TARGETS[column]
        raise InputError(f"{source}: image {image} has no row for {target}; every image needs all five targets")
    dataset = Dataset(root, images.join(targets[list(TARGETS)]))
    _warn_unbalanced(source, dataset)
    return dataset


def read_test(root: str | os.PathLike[str]) -> Dataset:
    """Read and check `test.csv` of a data folder: image ids and paths, no labels.

    Raises:
        InputError: naming file, row and reason.
    """
    root, table = _read_csv(root, "test.csv", _TEST_COLUMNS)
    return Dataset(root, _one_row_an_image(root / "test.csv", table, []))


def verify_pictures(dataset: Dataset, needed: bool = True) -> str:
    """Decode every photograph and return the dataset's fingerprint.

    The fingerprint is a SHA-256 over ids, targets (where there are any), the bytes of every picture and the weights of
    pseudo-labels (where there are any), in order of image id; every OOF file and every blend carries it.

    Args:
        dataset: the photographs.
        needed: False where features were made elsewhere: then no picture has to be there, and where none is the
            fingerprint goes without them.

    Raises:
        InputError: a picture is missing, truncated or no picture, naming it.
    """
    order = np.argsort(dataset.images.index.to_numpy(dtype=str))
    paths = dataset.paths
    if needed or any(path.exists() for path in paths):
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            digests = list(pool.map(_picture_digest, [paths[i] for i in order]))
    else:
        digests = [b""] * len(paths)
    total = hashlib.sha256()
    ids = dataset.ids
    targets = dataset.targets.astype("<f8") if set(TARGETS) <= set(dataset.images.columns) else None
    for i, digest in zip(order, digests, strict=True):
        total.update(ids[i].encode() + digest)
        if targets is not None:
            total.update(targets[i].tobytes())
    if not dataset.measured.all():
        weights = np.where(dataset.measured, 0.0, dataset.pseudo_weights)
        total.update(weights[order].astype("<f8").tobytes())
    return total.hexdigest()


def _picture_digest(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        with Image.open(path) as picture:
            picture.load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture; image_path is relative to the data folder") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable picture ({error}); replace the file or drop its rows") from None
    return hashlib.sha256(content).digest()


def _read_csv(root: str | os.PathLike[str], name: str, columns: tuple[str, ...]) -> tuple[Path, pd.DataFrame]:
    root = Path(root).expanduser().absolute()
    source = root / name
    if not root.is_dir():
        raise InputError(f"{root}: no such data folder; expected one with {name} and pictures")
    if not source.is_file():
        raise InputError(f"{source}: no such file; a data folder in the competition's layout has one")
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: not a CSV file ({error})") from None
    if absent := [c for c in columns if c not in table.columns]:
        raise InputError(f"{source}: column(s) {', '.join(absent)} missing; found {', '.join(map(str, table.columns))}")
    table.index = pd.RangeIndex(2, len(table) + 2)  # as an editor numbers the lines of the file
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{source}: no rows; expected five for each image")
    parts = table["sample_id"].str.rsplit("__", n=1, expand=True).reindex(columns=[0, 1])
    table = table.assign(image_id=parts[0])
    nameless = parts[1].isna() | (parts[0] == "")
    _refuse(source, table, nameless, "sample_id {sample_id!r} is not <image id>__<target name>")
    _refuse(source, table, parts[1] != table["target_name"], "sample_id {sample_id!r} does not end in its target_name")
    unknown = ~table["target_name"].isin(TARGETS)
    _refuse(source, table, unknown, f"unknown target {{target_name!r}}; expected one of {', '.join(TARGETS)}")
    _refuse(source, table, table["sample_id"].duplicated(), "sample_id {sample_id!r} appears twice")
    outside = ~table["image_path"].map(_stays_inside)
    _refuse(source, table, outside, "image_path {image_path!r} leaves the data folder; give a path inside it")
    return root, table


def _stays_inside(path: str) -> bool:
    pure = PurePosixPath(path.replace("\\", "/"))
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and ":" not in pure.parts[0]


def _one_row_an_image(source: Path, table: pd.DataFrame, metadata: list[str]) -> pd.DataFrame:
    # Sorted by id: the order of the file must not decide which images a seed puts into which fold.
    columns = ["image_path", *metadata]
    images = table.drop_duplicates("image_id").set_index("image_id")[columns].sort_index()
    for column in columns:
        first = table["image_id"].map(images[column])
        differs = (table[column] != first) & ~(table[column].isna() & first.isna())
        _refuse(source, table, differs, f"{column} differs from that of the other rows of image {{image_id}}")
    return images


def _refuse(source: Path, table: pd.DataFrame, bad: pd.Series, reason: str) -> None:
    """Raise for the first bad row, named by its line."""
    if bad.any():
        position = int(np.flatnonzero(bad)[0])
        row = {str(column): value for column, value in table.iloc[position].items()}
        raise InputError(f"{source}, line {table.index[position]}: {reason.format(**row)}")


def _warn_unbalanced(source: Path, dataset: Dataset) -> None:
    gap = balance_gap(dataset.targets)
    off = np.flatnonzero(gap > BALANCE_TOLERANCE_G)
    if len(off):
        worst = dataset.ids[int(gap.argmax())]
        warnings.warn(
            f"{source}: {len(off)} image(s) break the mass balance by more than {BALANCE_TOLERANCE_G} g "
            f"(worst: {worst}, by {gap.max():.2f} g); they are kept as they are",
            stacklevel=3,
        )
