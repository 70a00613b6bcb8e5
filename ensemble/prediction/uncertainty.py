"""Uncertainty of predictions: how much members, folds and test-time augmentation disagree, and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.prediction.photographs import chunks
from ensemble.prediction.predict import external_members, model_predictions
from ensemble.prediction.run_models import ChunkRun, most_photographs, network_views
from pasture.dataset import Dataset
from pasture.files import Folder
from pasture.projection import project
from pasture.sample_ids import join_sample_ids
from pasture.targets import TARGETS, Array
from trainables.compute.precision import best_device
from trainables.images import d4
from trainables.images.image_cache import Watch, silent
from trainables.network.model import BiomassNet
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
        predicted_sd: (n, 5) what members with `loss.kind=gaussian_nll` predict for their own errors: the root mean
            square over elements, folds and these members by weight; None where no member does.
    """

    predictions: Array
    members: Array
    member_sd: Array
    fold_sd: Array
    tta_sd: Array
    predicted_sd: Array | None = None


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
    predicted_sd = _predicted_sd(blend, dataset, tta, importance, watch)
    spreads = np.sqrt(member_variance), np.sqrt(fold_variance), np.sqrt(tta_variance)
    return Detail(predictions, members, *spreads, predicted_sd)


def _predicted_sd(blend: Blend, dataset: Dataset, tta: TtaName | None, importance: Array, watch: Watch) -> Array | None:
    """See `Detail.predicted_sd`; its members run once more, on one device.

    Args:
        importance: (m, 5) share of each member in a target.
    """
    gaussian = [
        (member, share)
        for member, share in zip(blend.members, importance, strict=True)
        if member.recipe and member.recipe.loss.kind == "gaussian_nll"
    ]
    if not gaussian:
        return None
    total = np.sum([share for _, share in gaussian], axis=0)
    variance, elements, device = (
        np.zeros((len(dataset), len(TARGETS))),
        d4.tta_elements(tta or blend.tta),
        best_device(),
    )
    for chunk in chunks(dataset, network_views(blend), most_photographs(blend)):
        run = ChunkRun(blend, dataset.ids, chunk, elements, device, watch)
        for member, share in gaussian:
            # A target for which none of them has a weight: all count the same.
            weight = np.where(total > 0, share / np.where(total > 0, total, 1), 1 / len(gaussian))
            variance[chunk.rows] += weight * _member_variance(run, member)
    return np.sqrt(variance)


@torch.inference_mode()
def _member_variance(run: ChunkRun, member: BlendMember) -> Array:
    """(n, 5) predicted variance in square grams, the mean over elements and folds."""
    folds = []
    for model in run.models(member):
        spread = run.run(model, cast(BiomassNet, model.net).spread)  # (elements, n, 5)
        folds.append(spread.square().mean(dim=0).numpy())
        del model  # before the next is built
    return np.asarray(np.mean(folds, axis=0))


def write_members(out: Path, blend: Blend, image_ids: list[str], detail: Detail) -> None:
    """Write what each member predicts: sample_id, the blend, then a column a member, in grams.

    Raises:
        JobError: the file cannot be written.
    """
    columns = {"blend": detail.predictions} | {m.key: p for m, p in zip(blend.members, detail.members, strict=True)}
    _write(out, image_ids, columns)


def write_uncertainty(out: Path, blend: Blend, image_ids: list[str], detail: Detail) -> None:
    """Write sample_id, target, member_sd, fold_sd, tta_sd; predicted_sd where members predict it; low and high where
    the blend has intervals.

    Raises:
        JobError: the file cannot be written.
    """
    columns = {
        "target": detail.predictions,
        "member_sd": detail.member_sd,
        "fold_sd": detail.fold_sd,
        "tta_sd": detail.tta_sd,
    }
    if detail.predicted_sd is not None:
        columns["predicted_sd"] = detail.predicted_sd
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
