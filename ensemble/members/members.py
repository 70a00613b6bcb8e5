"""Candidates for a blend: the finished trials of one or several runs, joined by image id and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensemble.members.oof_files import Member, read_common_truth, read_members
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array
from trainables.recipe.sections import TtaName

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
    truth = read_common_truth(runs)
    names = ", ".join(map(str, runs))
    members = read_members(runs, tta)
    if not members:
        raise InputError(f"no finished trial in {names}; wait for one, or `forage resume` the run")
    sieve = _Sieve(names)
    members = sieve.keep(members, lambda m: m.damage)
    members, fingerprint, images = _of_one_dataset(sieve, members, frozenset(truth.index))
    members, warnings = _of_honest_folds(sieve, members, {str(image): date for image, date in truth["date"].items()})
    if any(m.metadata.get("pseudo_images") for m in members):
        warnings.append(
            "some members were trained on pseudo-labels, which know the labels of all folds: every score flatters"
        )
    truth = truth[truth.index.isin(images)]
    values = truth[list(TARGETS)].to_numpy(dtype=np.float64)
    order = list(truth.index)
    found = []
    while members:  # each is let go as soon as it is a candidate
        found.append(_candidate(members.pop(), order, values))
    candidates, duplicates = _join_duplicates(found)
    return Pool(
        image_ids=order,
        truth=values,
        dates=truth["date"].to_numpy(dtype=str),
        fingerprint=fingerprint,
        candidates=candidates,
        refused=sorted(sieve.refused + duplicates),
        warnings=warnings,
    )


@dataclass
class _Sieve:
    """Lets members through or notes why not.

    Attributes:
        runs: where they come from, for errors.
        refused: (key, reason).
    """

    runs: str
    refused: list[tuple[str, str]] = field(default_factory=list)

    def keep(self, members: list[Member], objection: Callable[[Member], str | None]) -> list[Member]:
        """Those without an objection.

        Raises:
            InputError: there is none.
        """
        objections = [objection(member) for member in members]
        self.refused.extend((m.key, reason) for m, reason in zip(members, objections, strict=True) if reason)
        kept = [m for m, reason in zip(members, objections, strict=True) if not reason]
        if not kept:
            key, reason = self.refused[0]
            count = len(self.refused)
            raise InputError(f"no trial in {self.runs} can be blended; the first of {count}, {key}: {reason}")
        return kept


def _of_one_dataset(
    sieve: _Sieve, members: list[Member], known: frozenset[str]
) -> tuple[list[Member], str, frozenset[str]]:
    """Members with the fingerprint and the images that most have; both of these."""
    members = sieve.keep(members, lambda m: _unknown_images(m.images, known))
    trained = [m for m in members if not m.imported] or members
    fingerprint = _most_common(m.metadata["fingerprint"] for m in trained)
    members = sieve.keep(members, lambda m: None if m.imported else _other_data(m.metadata["fingerprint"], fingerprint))
    images = _most_common(m.images for m in members)
    return sieve.keep(members, lambda m: _other_images(m.images, images)), fingerprint, images


def _of_honest_folds(sieve: _Sieve, members: list[Member], dates: dict[str, Any]) -> tuple[list[Member], list[str]]:
    """Members that keep dates together, where there are any; what is to be said of the others."""
    warnings = []
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
        return members, warnings
    reason = "its folds put images of one date on both sides, other members keep dates together: its score flatters"
    return sieve.keep(members, lambda m: reason if m.key in splitting else None), warnings


def _candidate(member: Member, image_ids: list[str], truth: Array) -> Candidate:
    rows = member.rows
    order = [rows[i] for i in image_ids]
    predictions = member.table.predictions[order, 0]
    epochs = member.epochs
    if epochs is not None:  # in place: the epochs of all members are the bulk of what is read
        epochs[:, : len(order)] = epochs[:, order]
        epochs = epochs[:, : len(order)]
    return Candidate(
        key=member.key,
        run=member.run,
        trial=member.trial,
        recipe=member.metadata["recipe"],
        recipe_hash=member.metadata["recipe_hash"],
        backbone_digest=member.metadata.get("backbone_digest", ""),
        semantic_digest=member.metadata.get("semantic_digest", ""),
        curve=member.curve,
        imported=member.imported,
        score=weighted_r2(truth, predictions),
        epoch=member.metadata["epoch"],
        predictions=predictions,
        epochs=epochs,
        folds=member.table.folds[order],
    )


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
