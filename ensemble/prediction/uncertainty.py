"""Uncertainty of predictions: how much members, folds and test-time augmentation disagree, and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ensemble.blend.blend import Blend
from ensemble.prediction.predict import external_members, model_predictions
from pasture.dataset import Dataset
from pasture.files import Folder
from pasture.projection import project
from pasture.sample_ids import join_sample_ids
from pasture.targets import TARGETS, Array
from trainables.images.image_cache import Watch, silent
from trainables.recipe.sections import TtaName


@dataclass(frozen=True, eq=False)
class Detail:
    """A prediction and what it is made of, all in grams.

    Attributes:
        predictions: (n, 5) of the blend.
        members: (m, n, 5) of each member, in the order of the blend's.
        member_sd: (n, 5) standard deviation of the members about their mean, each counting as much as it weighs.
        fold_sd: (n, 5) that of a member's folds about their mean, the root mean square over members.
        tta_sd: (n, 5) that of the elements of the test-time augmentation about their mean, for the blend as a whole.
    """

    predictions: Array
    members: Array
    member_sd: Array
    fold_sd: Array
    tta_sd: Array


def predict_in_detail(
    blend: Blend,
    dataset: Dataset,
    tta: TtaName | None = None,
    given: Mapping[str, Array] | None = None,
    watch: Watch = silent,
) -> Detail:
    """Predict photographs once and keep what the members, folds and elements predicted; arguments as of `predict`.

    Raises:
        InputError, JobError: as `predict`.
    """
    n, m = len(dataset), len(blend.members)
    members = np.zeros((m, n, len(TARGETS)))
    fold_variance, tta_variance = np.zeros((2, n, len(TARGETS)))
    for member in external_members(blend, given or {}):
        members[blend.members.index(member)] = (given or {})[member.key]
    shares = np.stack([member.shares for member in blend.members])  # (m, 5)
    importance = np.abs(shares) / np.abs(shares).sum(axis=0)
    owner = np.repeat(np.arange(m), [member.folds for member in blend.members])
    for rows, grams in model_predictions(blend, dataset, tta, watch):
        by_fold = grams.mean(axis=1)  # (models, rows, 5)
        by_element = np.zeros(grams.shape[1:])  # (elements, rows, 5)
        for i in np.unique(owner):
            own = owner == i
            members[i, rows] = by_fold[own].mean(axis=0)
            fold_variance[rows] += importance[i] * by_fold[own].var(axis=0)
            by_element += shares[i] * grams[own].mean(axis=0)
        tta_variance[rows] = by_element.var(axis=0)
    mean = np.einsum("mt,mnt->nt", importance, members)
    member_variance = np.einsum("mt,mnt->nt", importance, (members - mean) ** 2)
    predictions = project(np.einsum("mt,mnt->nt", shares, members))
    return Detail(predictions, members, np.sqrt(member_variance), np.sqrt(fold_variance), np.sqrt(tta_variance))


def write_members(out: Path, blend: Blend, image_ids: list[str], detail: Detail) -> None:
    """Write what each member predicts: sample_id, the blend, then a column a member, in grams.

    Raises:
        JobError: the file cannot be written.
    """
    columns = {"blend": detail.predictions} | {m.key: p for m, p in zip(blend.members, detail.members, strict=True)}
    _write(out, image_ids, columns)


def write_uncertainty(out: Path, blend: Blend, image_ids: list[str], detail: Detail) -> None:
    """Write sample_id, target, member_sd, fold_sd, tta_sd and, where the blend has intervals, low and high.

    Raises:
        JobError: the file cannot be written.
    """
    columns = {
        "target": detail.predictions,
        "member_sd": detail.member_sd,
        "fold_sd": detail.fold_sd,
        "tta_sd": detail.tta_sd,
    }
    if blend.conformal:
        columns["low"], columns["high"] = blend.conformal.bounds(detail.predictions)
    _write(out, image_ids, columns)


def _write(out: Path, image_ids: list[str], columns: dict[str, Array]) -> None:
    samples = join_sample_ids(image_ids)
    table = pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=samples)
    out = out.absolute()
    Folder.at(out.parent).write(
        out.name, table.rename_axis("sample_id").to_csv(float_format="%.6f", lineterminator="\n").encode()
    )
