"""Candidates for a blend: the finished trials of one or several runs, joined by image id and checked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array
from trainables.d4 import tta_elements
from trainables.sections import TtaName

_METADATA = ("recipe", "recipe_hash", "epoch", "fingerprint")

_Value = TypeVar("_Value", str, frozenset[str])


@dataclass(frozen=True, eq=False)
class Candidate:
    """One finished trial, its rows in the order of `Pool.image_ids`.

    Attributes:
        key: `<run>-<trial>`, unique in its pool.
        run: where its OOF was read and its weights lie.
        trial: its name in that run.
        recipe: the recipe as a mapping of sections.
        recipe_hash: content hash of the recipe.
        score: R2 of `predictions` (with TTA), not the score that the trial reported (without).
        epoch: 0-based epoch of `predictions`, an index into `epochs`.
        predictions: (n, 5) OOF in grams, mean over the D4 elements of the TTA.
        epochs: (E, n, 5) OOF in grams of every epoch without TTA, projected; None where the run kept none.
        folds: (n,) the fold in which each image was held out.
        backbone_digest: hash of the pretrained weights it was trained on; empty where its models are not at hand.
        semantic_digest: the same of its second backbone; empty where it has none.
        curve: R2 after every epoch up to its own, as the trial reported it.
        imported: whether it is predictions from elsewhere, without models.
    """

    key: str
    run: RunFolder
    trial: str
    recipe: dict[str, Any]
    recipe_hash: str
    score: float
    epoch: int
    predictions: Array
    epochs: NDArray[np.float32] | None
    folds: NDArray[np.int8]
    backbone_digest: str = ""
    semantic_digest: str = ""
    curve: tuple[float, ...] = ()
    imported: bool = False

    @property
    def backbone(self) -> str:
        """Name of its backbone; a recipe that names none (an imported member) counts as a backbone of its own."""
        return str(self.recipe.get("backbone", {}).get("name", self.key))


@dataclass(frozen=True, eq=False)
class Pool:
    """Members that may be blended, and why the others may not.

    Attributes:
        image_ids: n ids, sorted; the order of all arrays.
        truth: (n, 5) in grams.
        dates: (n,) sampling date of each image.
        fingerprint: of the data on which all candidates were trained.
        candidates: m members in the order of their keys.
        refused: (key, reason) of every OOF file that is not among the candidates.
        warnings: what makes the scores of all candidates less than honest.
    """

    image_ids: list[str]
    truth: Array
    dates: NDArray[np.str_]
    fingerprint: str
    candidates: list[Candidate]
    refused: list[tuple[str, str]]
    warnings: list[str]

    @property
    def predictions(self) -> Array:
        """(m, n, 5) in grams: every candidate's predictions, a new array."""
        return np.stack([c.predictions for c in self.candidates])

    @property
    def backbones(self) -> list[str]:
        """m names: the backbone of every candidate."""
        return [c.backbone for c in self.candidates]


def load_candidates(runs: Sequence[RunFolder], tta: TtaName) -> Pool:
    """Read every OOF file of some runs and keep those that can rightly be blended.

    Rows are joined by image id, never by their order; a row with fold -1 was never held out and does not count. The
    reference for fingerprint and images is what most members have (then the larger set, then the last by id): a
    member is refused, with the reason, if

    - its OOF or its epochs are damaged, or its metadata lack a field;
    - it has images that the truth does not have;
    - its fingerprint, and then its set of images, is not the reference; an imported member, whose pictures nobody has
      seen, is held to the truth alone, which all runs share;
    - its folds put one date on both sides while those of other members keep dates together. Where no member keeps
      dates together all are accepted, with a warning. Folds may differ otherwise: every row of an OOF is out of fold
      for its member. Imported members whose folds are unknown are accepted, with a warning;
    - it has the same recipe as a member with a better score (then the first by key).

    Args:
        runs: run directories made from the same data.
        tta: the test-time augmentation that prediction will use; a member whose OOF lacks its elements counts with
            the identity alone.

    Raises:
        InputError: two runs differ in images, dates or targets, or have trials of one name; no candidate is left.
    """
    truth = _common_truth(runs)
    names = ", ".join(map(str, runs))
    files = _oof_files(runs)
    if not files:
        raise InputError(f"no finished trial in {names}; wait for one, or `forage resume` the run")
    elements = tta_elements(tta)
    refused: list[tuple[str, str]] = []

    def keep(members: list[_Member], objection: Callable[[_Member], str | None]) -> list[_Member]:
        objections = [objection(member) for member in members]
        refused.extend((m.key, reason) for m, reason in zip(members, objections, strict=True) if reason)
        kept = [m for m, reason in zip(members, objections, strict=True) if not reason]
        if not kept:
            key, reason = refused[0]
            raise InputError(f"no trial in {names} can be blended; the first of {len(refused)}, {key}: {reason}")
        return kept

    with ThreadPoolExecutor() as threads:
        members = list(threads.map(partial(_Member.read, elements), *zip(*files, strict=True)))
    members = keep(members, lambda m: m.damage)
    images_known = frozenset(truth.index)
    members = keep(members, lambda m: _unknown_images(m.images, images_known))
    trained = [m for m in members if not m.imported] or members
    fingerprint = _most_common(m.metadata["fingerprint"] for m in trained)
    members = keep(members, lambda m: None if m.imported else _other_data(m.metadata["fingerprint"], fingerprint))
    images = _most_common(m.images for m in members)
    members = keep(members, lambda m: _other_images(m.images, images))

    warnings = []
    dates = {str(image): date for image, date in truth["date"].items()}
    known = [m for m in members if m.metadata.get("folds_known", True)]
    if len(known) < len(members):
        warnings.append(
            f"the folds of {len(members) - len(known)} imported member(s) are unknown: if they put images of one date "
            "on both sides, their scores flatter, the nested one too"
        )
    splitting = {m.key for m in known if m.splits_a_date(dates)}
    if splitting and len(splitting) == len(known):
        warnings.append(
            "all members have images of one date in different folds (validation.splitter image or holdout): "
            "every score flatters, the nested one too"
        )
    else:
        reason = "its folds put images of one date on both sides, other members keep dates together: its score flatters"
        members = keep(members, lambda m: reason if m.key in splitting else None)

    if any(m.metadata.get("pseudo_images") for m in members):
        warnings.append(
            "some members were trained on pseudo-labels, which know the labels of all folds: every score flatters"
        )

    truth = truth[truth.index.isin(images)]
    values = truth[list(TARGETS)].to_numpy(dtype=np.float64)
    order = list(truth.index)
    found = []
    while members:  # each is let go as soon as it is a candidate
        found.append(members.pop().candidate(order, values))
    candidates, duplicates = _join_duplicates(found)
    return Pool(
        image_ids=list(truth.index),
        truth=values,
        dates=truth["date"].to_numpy(dtype=str),
        fingerprint=fingerprint,
        candidates=candidates,
        refused=sorted(refused + duplicates),
        warnings=warnings,
    )


@dataclass(frozen=True, eq=False)
class _Member:
    """An OOF file as it was found but for the mean over the TTA; `damage` says why it cannot be used."""

    key: str
    run: RunFolder
    trial: str
    damage: str | None
    table: OofTable
    epochs: NDArray[np.float32] | None

    @classmethod
    def read(cls, elements: tuple[int, ...], key: str, run: RunFolder, trial: str) -> _Member:
        nothing = OofTable([], np.empty(0, np.int8), np.empty((0, 1, len(TARGETS))), {})
        try:
            table = run.read_oof(trial)
            epochs = run.read_epochs(trial)
            # All elements of all members are large, and only their mean is needed.
            averaged = elements if max(elements) < table.predictions.shape[1] else (0,)
            table = dataclasses.replace(table, predictions=table.mean(averaged)[:, None])
        except InputError as error:
            return cls(key, run, trial, str(error), nothing, None)
        damage = None
        if absent := [name for name in _METADATA if name not in table.metadata]:
            damage = f"the metadata of its OOF lack {', '.join(absent)}"
        elif epochs is not None:
            expected = (len(table.image_ids), len(TARGETS))
            if epochs.shape[1:] != expected or not 0 <= table.metadata["epoch"] < len(epochs):
                damage = f"its epochs {epochs.shape} do not hold epoch {table.metadata['epoch']} of {expected} OOF rows"
            # A sweep of 2,000 trials keeps some 10^8 numbers here, and they were stored as float32.
            epochs = epochs.astype(np.float32)
        return cls(key, run, trial, damage, table, epochs)

    @property
    def metadata(self) -> dict[str, Any]:
        return self.table.metadata

    @property
    def imported(self) -> bool:
        return bool(self.metadata.get("imported"))

    @property
    def curve(self) -> tuple[float, ...]:
        reports = self.metadata.get("curve", [])[: self.metadata["epoch"] + 1]
        return tuple(float(report["epoch_score"]) for report in reports)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each image that was held out."""
        return {i: row for row, i in enumerate(self.table.image_ids) if self.table.folds[row] >= 0}

    @cached_property
    def images(self) -> frozenset[str]:
        return frozenset(self.rows)

    def splits_a_date(self, dates: dict[str, Any]) -> bool:
        """Whether two images of one date lie in different folds, or one of them only ever in the training set."""
        folds = {i: int(self.table.folds[row]) for i, row in self.rows.items()}
        pairs = {(date, folds.get(i, -1)) for i, date in dates.items()}
        return len(pairs) > len(set(dates.values()))

    def candidate(self, image_ids: list[str], truth: Array) -> Candidate:
        rows = self.rows
        order = [rows[i] for i in image_ids]
        predictions = self.table.predictions[order, 0]
        epochs = self.epochs
        if epochs is not None:  # in place: the epochs of all members are the bulk of what is read
            epochs[:, : len(order)] = epochs[:, order]
            epochs = epochs[:, : len(order)]
        return Candidate(
            key=self.key,
            run=self.run,
            trial=self.trial,
            recipe=self.metadata["recipe"],
            recipe_hash=self.metadata["recipe_hash"],
            backbone_digest=self.metadata.get("backbone_digest", ""),
            semantic_digest=self.metadata.get("semantic_digest", ""),
            curve=self.curve,
            imported=self.imported,
            score=weighted_r2(truth, predictions),
            epoch=self.metadata["epoch"],
            predictions=predictions,
            epochs=epochs,
            folds=self.table.folds[order],
        )


def _common_truth(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Truth of all runs, sorted by image id."""
    first, *others = [run.read_truth().sort_index() for run in runs]
    columns = ["date", *TARGETS]
    for run, other in zip(runs[1:], others, strict=True):
        if not other[columns].equals(first[columns]):
            raise InputError(
                f"{runs[0]} and {run} have different images, dates or targets; blend only runs made from the same data"
            )
    return first


def _oof_files(runs: Sequence[RunFolder]) -> list[tuple[str, RunFolder, str]]:
    """(key, run, trial) of every OOF file, in the order of the keys."""
    found: dict[str, tuple[str, RunFolder, str]] = {}
    for run in runs:
        for trial in (name.removesuffix(".parquet") for name in run.oof.names(".parquet")):
            key = f"{run.name}-{trial}"
            if key in found:
                raise InputError(f"{found[key][1]} and {run} both have a {key}; give each run once, or rename a folder")
            found[key] = (key, run, trial)
    return [found[key] for key in sorted(found)]


def _most_common(values: Iterable[_Value]) -> _Value:
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], len(value), sorted(value)))


def _unknown_images(images: frozenset[str], known: frozenset[str]) -> str | None:
    unknown = sorted(images - known)
    return f"it has {len(unknown)} image(s) without truth, such as {unknown[0]}" if unknown else None


def _other_data(fingerprint: str, reference: str) -> str | None:
    if fingerprint == reference:
        return None
    return f"it was trained on other data (fingerprint {fingerprint[:12]}, other members have {reference[:12]})"


def _other_images(images: frozenset[str], reference: frozenset[str]) -> str | None:
    if missing := sorted(reference - images):
        return f"its OOF lacks {len(missing)} of {len(reference)} images, such as {missing[0]}"
    if more := sorted(images - reference):
        return f"its OOF has {len(more)} image(s) that other members lack, such as {more[0]}"
    return None


def _join_duplicates(candidates: list[Candidate]) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """The best candidate of each recipe in the order of the keys, and the others with the reason."""
    best: dict[str, Candidate] = {}
    duplicates = []
    for candidate in sorted(candidates, key=lambda c: (-c.score, c.key)):
        kept = best.setdefault(candidate.recipe_hash, candidate)
        if kept is not candidate:
            duplicates.append((candidate.key, f"it has the same recipe as {kept.key}, which is at least as good"))
    return sorted(best.values(), key=lambda c: c.key), duplicates
