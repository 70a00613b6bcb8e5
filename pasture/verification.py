"""Verifying a dataset: every picture is decoded, and everything that training reads gets a fingerprint."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pasture.dataset import Dataset
from pasture.findings import Findings
from pasture.pictures import PictureFacts, picture_facts
from pasture.targets import TARGETS

ASPECT: Final = (1.8, 2.2)
"""Width of a picture by its height that is not warned about; the competition's photographs are 2000 x 1000 pixels."""

_TEXT: Final = ("state", "species")
_NUMBERS: Final = ("ndvi", "height_cm", *TARGETS, "pseudo_weight", "teacher_fold")


@dataclass(frozen=True)
class VerifiedDataset(Dataset):
    """A dataset whose content is known by its fingerprint.

    Attributes:
        content: see `fingerprint_of`. What depends on the photographs alone (decoded pictures, features) is kept
            under it, so that it serves whatever dates are held out.
    """

    content: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content and the outer dates; the content's own where there are none.

        Every OOF file and every blend carries it, so that trials that held out different dates are never blended.
        """
        return fingerprint_without(self.content, self.outer_dates)


def verify(dataset: Dataset, needs_pictures: bool = True) -> VerifiedDataset:
    """Decode every photograph and compute the dataset's fingerprint.

    Identical pictures under two ids and odd aspect ratios are reported as warnings.

    Args:
        dataset: the photographs.
        needs_pictures: False where features were made elsewhere. Then no picture has to be there, and where none is
            the fingerprint is that of the table alone.

    Raises:
        DataError: pictures are missing, truncated or not pictures, naming them.
        StorageError: the disk fails.
    """
    if not needs_pictures and not any(path.exists() for path in dataset.paths):
        return with_fingerprint(dataset, fingerprint_of(dataset))
    findings = Findings()
    facts = check_pictures(dataset, findings)
    findings.raise_if_any()
    return with_fingerprint(dataset, fingerprint_of(dataset, [fact.digest for fact in facts]))


def check_pictures(dataset: Dataset, findings: Findings) -> list[PictureFacts]:
    """Decode every photograph: its facts, in the order of the dataset; without those that are added to `findings`."""
    facts = []
    for result in picture_facts(dataset.paths):
        if isinstance(result, PictureFacts):
            facts.append(result)
        else:
            findings.add(str(result))
    if len(facts) == len(dataset):
        _warn_identical(dataset, facts)
        _warn_aspect(dataset, facts)
    return facts


def with_fingerprint(dataset: Dataset, content: str) -> VerifiedDataset:
    """`dataset` with its content's fingerprint, computed elsewhere, such as by the process that started a sweep."""
    return VerifiedDataset(dataset.root, dataset.images, content, outer_dates=dataset.outer_dates)


def fingerprint_without(content: str, outer_dates: Collection[str]) -> str:
    """Fingerprint of data with some dates held out, from that of their content."""
    if not outer_dates:
        return content
    return hashlib.sha256(json.dumps([content, *sorted(set(outer_dates))]).encode()).hexdigest()


def fingerprint_of(dataset: Dataset, picture_digests: Sequence[bytes] = ()) -> str:
    """SHA-256 of everything that training reads, in order of image id, as 64 hexadecimal digits.

    It covers ids, dates, states, species, NDVI, height, targets, the weights of pseudo-labels (as far as the dataset
    has these columns) and the bytes of the pictures. Neither the order of rows nor the place of the folder counts.

    Args:
        dataset: the photographs.
        picture_digests: of each picture, in the order of the dataset; none for a fingerprint of the table alone.
    """
    order = np.argsort(dataset.images.index.to_numpy(dtype=str), kind="stable")
    images = dataset.images.iloc[order]
    total = hashlib.sha256(json.dumps([str(i) for i in images.index]).encode())
    if "date" in images.columns:
        total.update(b"date" + json.dumps(dataset.dates[order].tolist()).encode())
    for name in _TEXT:
        if name in images.columns:
            total.update(name.encode() + json.dumps(images[name].fillna("").astype(str).tolist()).encode())
    for name in _NUMBERS:
        # A table without pseudo-labels is the same with and without the column for their weights.
        if name in images.columns and (name in TARGETS or images[name].notna().any()):
            values = images[name].to_numpy(dtype="<f8")
            total.update(name.encode() + np.where(np.isnan(values), np.nan, values).tobytes())
    for row in order if len(picture_digests) else ():
        total.update(picture_digests[row])
    return total.hexdigest()


def identical_pictures(facts: Sequence[PictureFacts], ids: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of ids with the same picture file; each later id with the first one."""
    first: dict[bytes, str] = {}
    pairs = []
    for fact, image_id in zip(facts, ids, strict=True):
        if first.setdefault(fact.digest, image_id) != image_id:
            pairs.append((first[fact.digest], image_id))
    return pairs


def _warn_identical(dataset: Dataset, facts: Sequence[PictureFacts]) -> None:
    # One photograph under several ids, for the label of each teacher, is no mistake.
    path = dict(zip(dataset.ids, dataset.paths, strict=True))
    if pairs := [(one, other) for one, other in identical_pictures(facts, dataset.ids) if path[one] != path[other]]:
        one, other = pairs[0]
        warnings.warn(
            f"{dataset.root}: {len(pairs)} picture(s) are identical to that of another id, such as {other} and {one}; "
            "if they fall into different folds, the score is too high",
            stacklevel=4,
        )


def _warn_aspect(dataset: Dataset, facts: Sequence[PictureFacts]) -> None:
    odd = [i for i, fact in enumerate(facts) if not ASPECT[0] <= fact.width / fact.height <= ASPECT[1]]
    if odd:
        fact = facts[odd[0]]
        warnings.warn(
            f"{dataset.root}: {len(odd)} picture(s) are not about twice as wide as high, such as {dataset.ids[odd[0]]} "
            f"({fact.width} x {fact.height}); views are cut as if they were and stretch them",
            stacklevel=4,
        )
