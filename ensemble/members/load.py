"""Loading the members that may be blended: the OOF files of some runs, checked and joined by image id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ensemble.members.oof_files import OofFile, read_common_truth, read_oof_files
from ensemble.members.pool import Member, Pool
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array
from trainables.recipe.sections import TtaName

_Value = TypeVar("_Value", str, frozenset[str])


def load_members(runs: Sequence[RunFolder], tta: TtaName) -> Pool:
    """Read every OOF file of some runs and keep those that may be blended.

    Rows are joined by image id, never by their order; a row with fold -1 was never held out and does not count. The
    reference for fingerprint and images is what most files have (then the larger set, then the last by id). A file is
    refused, with the reason, if

    - it or its epochs are damaged, or its metadata lack a field;
    - it has images that the truth does not have;
    - its fingerprint, and then its set of images, is not the reference; an external member, whose pictures are not
      known, is compared with the truth alone, which all runs share;
    - its folds put one date on both sides while those of other files keep dates together. Where no file keeps dates
      together all are accepted, with a warning. Folds may differ otherwise: every row of an OOF is out of fold for its
      member. External members whose folds are unknown are accepted, with a warning;
    - it has the same recipe as a member with a better score (then the first by key).

    Args:
        runs: run directories made from the same data.
        tta: the test-time augmentation that prediction will use; a file that lacks its elements counts with the
            identity alone.

    Raises:
        InputError: a run directory does not exist, two runs differ in images, dates or targets or have trials of one
            name, or no member is left.
    """
    truth = read_common_truth(runs)
    names = ", ".join(map(str, runs))
    files = read_oof_files(runs, tta)
    if not files:
        raise InputError(f"no finished trial in {names}; wait for one, or `forage resume` the run")
    checks = _Checks(names)
    files = checks.keep(files, lambda f: f.damage)
    files, fingerprint, images = _of_one_dataset(checks, files, frozenset(truth.index))
    files, warnings = _with_sound_folds(checks, files, {str(image): date for image, date in truth["date"].items()})
    warnings += _caveats(files)
    truth = truth[truth.index.isin(images)]
    values = truth[list(TARGETS)].to_numpy(dtype=np.float64)
    order = list(truth.index)
    found = []
    while files:  # each file is released as soon as it has become a member
        found.append(_member(files.pop(), order, values))
    members, duplicates = _without_duplicates(found)
    return Pool(
        image_ids=order,
        truth=values,
        dates=truth["date"].to_numpy(dtype=str),
        fingerprint=fingerprint,
        members=members,
        refused=sorted(checks.refused + duplicates),
        warnings=warnings,
    )


@dataclass
class _Checks:
    """Drops files and notes why.

    Attributes:
        runs: where the files come from, for errors.
        refused: (key, reason).
    """

    runs: str
    refused: list[tuple[str, str]] = field(default_factory=list)

    def keep(self, files: list[OofFile], objection: Callable[[OofFile], str | None]) -> list[OofFile]:
        """The files without an objection.

        Raises:
            InputError: there are none.
        """
        objections = [objection(file) for file in files]
        self.refused.extend((f.key, reason) for f, reason in zip(files, objections, strict=True) if reason)
        kept = [f for f, reason in zip(files, objections, strict=True) if not reason]
        if not kept:
            key, reason = self.refused[0]
            count = len(self.refused)
            raise InputError(f"no trial in {self.runs} can be blended; the first of {count}, {key}: {reason}")
        return kept


def _of_one_dataset(
    checks: _Checks, files: list[OofFile], known: frozenset[str]
) -> tuple[list[OofFile], str, frozenset[str]]:
    """Files with the fingerprint and the images that most have; both of these."""
    files = checks.keep(files, lambda f: _unknown_images(f.images, known))
    trained = [f for f in files if not f.external] or files
    fingerprint = _most_common(f.metadata["fingerprint"] for f in trained)
    files = checks.keep(files, lambda f: None if f.external else _other_data(f.metadata["fingerprint"], fingerprint))
    images = _most_common(f.images for f in files)
    return checks.keep(files, lambda f: _other_images(f.images, images)), fingerprint, images


def _with_sound_folds(checks: _Checks, files: list[OofFile], dates: dict[str, Any]) -> tuple[list[OofFile], list[str]]:
    """Files whose folds keep dates together, where there are any; and warnings about the others."""
    warnings = []
    known = [f for f in files if f.metadata.get("folds_known", True)]
    if len(known) < len(files):
        warnings.append(
            f"the folds of {len(files) - len(known)} external member(s) are unknown: if they put images of one date "
            "on both sides, their scores are too high, the nested one too"
        )
    splitting = {f.key for f in known if f.splits_a_date(dates)}
    if splitting and len(splitting) == len(known):
        warnings.append(
            "all members have images of one date in different folds (validation.splitter image or holdout): "
            "every score is too high, the nested one too"
        )
        return files, warnings
    reason = "its folds put images of one date on both sides, other members keep dates together: its score is too high"
    return checks.keep(files, lambda f: reason if f.key in splitting else None), warnings


def _caveats(files: Sequence[OofFile]) -> list[str]:
    warnings = []
    if any(f.metadata.get("pseudo_images") for f in files):
        warnings.append(
            "some members were trained on pseudo-labels, which contain the labels of all folds: every score is too high"
        )
    if unknown := sum(f.epoch_chosen and f.epochs is None for f in files):
        warnings.append(
            f"{unknown} candidate(s) have no OOF of every epoch: if their epoch was chosen by score, it was chosen on "
            "all dates, the held-out ones too"
        )
    return warnings


def _member(file: OofFile, image_ids: list[str], truth: Array) -> Member:
    rows = file.rows
    order = [rows[i] for i in image_ids]
    predictions = file.table.predictions[order, 0]
    epochs = file.epochs
    if epochs is not None:  # in place: the epochs of all members are the bulk of what is read
        epochs[:, : len(order)] = epochs[:, order]
        epochs = epochs[:, : len(order)]
    known = file.metadata.get("folds_known", True)
    return Member(
        key=file.key,
        run=file.run,
        trial=file.trial,
        recipe=file.metadata["recipe"],
        recipe_hash=file.metadata["recipe_hash"],
        score=weighted_r2(truth, predictions),
        epoch=file.metadata["epoch"],
        predictions=predictions,
        epochs=epochs,
        folds=file.table.folds[order] if known else np.full(len(order), -1, dtype=np.int8),
        backbone_digest=file.metadata.get("backbone_digest", ""),
        semantic_digest=file.metadata.get("semantic_digest", ""),
        curve=file.curve,
        origin=file.metadata.get("origin", "search"),
        external=file.external,
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


def _without_duplicates(members: list[Member]) -> tuple[list[Member], list[tuple[str, str]]]:
    """The best member of each recipe in the order of the keys, and the others with the reason."""
    best: dict[str, Member] = {}
    duplicates = []
    for member in sorted(members, key=lambda m: (-m.score, m.key)):
        kept = best.setdefault(member.recipe_hash, member)
        if kept is not member:
            duplicates.append((member.key, f"it has the same recipe as {kept.key}, which is at least as good"))
    return sorted(best.values(), key=lambda m: m.key), duplicates
