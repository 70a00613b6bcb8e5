"""Building a blend folder from the finished trials of some runs: load, decide, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendFile, BlendMember
from ensemble.blend.copy_models import has_models, write_models
from ensemble.estimate.conformal import calibrate
from ensemble.estimate.evidence import Evidence
from ensemble.estimate.prefixes import Prefix, prefixes
from ensemble.estimate.remarks import remarks, tta_remarks
from ensemble.estimate.scores import Estimate, evaluate
from ensemble.estimate.steps import steps
from ensemble.estimate.target_scores import target_scores
from ensemble.estimate.tta_scores import ELEMENTS, tta_worth
from ensemble.members.load import load_members
from ensemble.members.pool import Member, Pool
from ensemble.weighting.auto import procedure
from ensemble.weighting.library import Library, combine, shared
from ensemble.weighting.options import DEFAULT_METHOD, MethodChoice, Options, check_options
from ensemble.weighting.procedure import once
from pasture.atomic import atomic_folder
from pasture.errors import InputError
from pasture.files import Folder
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS, Array
from trainables.images import d4
from trainables.recipe.sections import TtaName
from trainables.recipe.versions import versions


def build(
    runs: Sequence[RunFolder],
    out: Path,
    tta: TtaName,
    method: MethodChoice = DEFAULT_METHOD,
    options: Options | None = None,
    scale: bool = False,
) -> Blend:
    """Choose members from the finished trials of some runs and write a blend folder.

    Args:
        runs: run directories made from the same data.
        out: folder to write; appears only when complete.
        tta: the test-time augmentation that the choice is made for.
        method: how members and weights are chosen.
        options: of greedy selection; limits hold for every method.
        scale: whether targets are scaled where that pays on dates held out.

    Raises:
        InputError: `out` exists, no trial can be blended, weights are damaged, an option that the method does not use.
        JobError: the folder cannot be written.
    """
    options = options or Options()
    check_options(method, options)
    if out.exists():
        raise InputError(f"{out}: exists already; choose another --out, or remove it")
    pool = load(runs, tta)
    return write(out, tta, pool, decide(pool, method, options, scale))


def load(runs: Sequence[RunFolder], tta: TtaName) -> Pool:
    """The members that can be blended and can predict: external ones, and trials with the weights of all folds.

    Raises:
        InputError: there are none.
    """
    pool = load_members(runs, tta)
    complete, refused = has_models(pool.members)
    if not complete:
        key, reason = refused[0]
        raise InputError(f"no trial can be blended; the first of {len(refused)}, {key}: {reason}")
    return dataclasses.replace(pool, members=complete, refused=sorted(pool.refused + refused))


@dataclass(frozen=True, eq=False)
class Decision:
    """Weights, members and scores of a blend that is to be written.

    Attributes:
        estimate: the weights of all members of the pool, and the scores.
        chosen: positions in the pool of the members with a weight, heaviest first.
        prefixes: scores of its heaviest members alone.
        how: method, options and, for `auto`, the scores of every method.
        warnings: what makes the scores too high, absent or doubtful.
    """

    estimate: Estimate
    chosen: list[int]
    prefixes: list[Prefix]
    how: dict[str, Any]
    warnings: list[str]


def decide(pool: Pool, method: MethodChoice, options: Options, scale: bool = False) -> Decision:
    """Choose members and weights, and estimate what they are worth; arguments as of `build`."""
    library, deciding = Library.of(pool), once(procedure(method, options, scale))
    estimate = evaluate(library, deciding)
    share = estimate.weights @ WEIGHTS
    chosen = [int(i) for i in np.argsort(-share, kind="stable") if estimate.weights[i].any()]
    choice = estimate.choice
    name = choice.name if choice else method
    assert name != "auto"
    taken = steps(name, library, options)
    keys = [member.key for member in pool.members]
    how = {
        "method": name,
        "steps": asdict(taken) | {"members": [keys[i] for i in taken.members]} if taken else None,
        "options": options.model_dump(exclude_defaults=True) | ({"scale": True} if scale else {}),
        "auto": {"held_out": choice.scores, "behind": choice.behind, "error": choice.error} if choice else None,
    }
    warnings = [*pool.warnings, *estimate.notes, *remarks(pool, estimate, method, options, chosen)]
    kept = prefixes(library, deciding, estimate.weights, estimate.nested)
    return Decision(estimate, chosen, kept, how, warnings)


def write(out: Path, tta: TtaName, pool: Pool, decision: Decision) -> Blend:
    """Write a blend folder, which appears only when complete.

    Raises:
        InputError: weights of a chosen member are damaged, or its pretrained backbone is not the one it was trained on.
        JobError: the folder cannot be written.
    """
    weights, chosen = decision.estimate.weights, decision.chosen
    with atomic_folder(out, fixed_name=True) as partial:
        folder = Folder.at(partial)
        evidence, worth = _evidence(pool, decision)
        evidence.write(folder)
        members = tuple(
            _write_member(folder, pool.members[i], weights[i], tta_scores)
            for i, tta_scores in zip(chosen, worth, strict=True)
        )
        _write_oof(folder, pool, chosen, combine(weights, pool.predictions))
        unseen, day = decision.estimate.unseen, np.unique(pool.dates, return_inverse=True)[1]
        content = BlendFile(
            tta=tta,
            fingerprint=pool.fingerprint,
            scores=_scores(decision.estimate)
            | decision.how
            | {
                "tta": _tta(evidence, worth),
                "prefixes": [asdict(prefix) for prefix in decision.prefixes],
                "targets": target_scores(pool.truth, combine(weights, pool.predictions), unseen),
            },
            conformal=None if unseen is None else calibrate(pool.truth, unseen, day),
            members=members,
            warnings=[*decision.warnings, *tta_remarks(evidence, tta)],
            versions=versions(),
        )
        content.write(folder)
    return Blend.of(out, content, evidence)


def _scores(estimate: Estimate) -> dict[str, Any]:
    names = ("fitted", "nested", "interval", "best_single", "uniform", "optimum", "gap", "baseline", "uniform_nested")
    start = asdict(estimate.start) if estimate.start else None
    return {name: getattr(estimate, name) for name in names} | {"start": start}


def _tta(evidence: Evidence, worth: list[dict[str, float]]) -> dict[str, float]:
    """Score of the blend by number of D4 elements, as far as any of its members has them."""
    return {
        name: weighted_r2(evidence.truth, evidence.blended(elements))
        for name, elements in ELEMENTS.items()
        if any(name in scores for scores in worth)
    }


def _write_member(folder: Folder, member: Member, weights: Array, tta: dict[str, float]) -> BlendMember:
    recipe, folds = (None, 0) if member.external else write_models(folder, member)
    return BlendMember(
        key=member.key,
        weight=float(weights @ WEIGHTS),
        target_weights=() if (weights == weights[0]).all() else tuple(weights.tolist()),
        score=member.score,
        tta=tta,
        backbone=member.backbone_digest,
        semantic=member.semantic_digest,
        folds=folds,
        epoch=member.epoch,
        curve=member.curve,
        recipe=recipe,
    )


def _write_oof(folder: Folder, pool: Pool, chosen: list[int], predictions: Array) -> None:
    folds = _common_folds([pool.members[i] for i in chosen])
    metadata = {
        "trial": "blend",
        "recipe": {},
        "recipe_hash": "",
        "epoch": 0,
        "fingerprint": pool.fingerprint,
        "folds_known": bool((folds >= 0).all()),
    }
    OofTable(pool.image_ids, folds, predictions[:, None], metadata).write(folder, "oof.parquet")


def _common_folds(members: Sequence[Member]) -> NDArray[np.int8]:
    """(n,) the fold in which all members held an image out; -1 where they differ or where that is not known."""
    folds = np.stack([member.folds for member in members])
    return np.where((folds == folds[0]).all(axis=0), folds[0], np.int8(-1))


def _evidence(pool: Pool, decision: Decision) -> tuple[Evidence, list[dict[str, float]]]:
    """The data that the blend is judged on, and the scores of each chosen member by number of D4 elements."""
    weights, unseen = decision.estimate.weights, decision.estimate.unseen
    predictions = np.zeros((len(pool.image_ids), len(d4.ALL), len(TARGETS)))
    worth = []
    for i in decision.chosen:
        table = pool.members[i].run.read_oof(pool.members[i].trial)
        row = {image: position for position, image in enumerate(table.image_ids)}
        elements = table.predictions[[row[image] for image in pool.image_ids]]
        worth.append(tta_worth(pool.truth, elements))
        predictions += weights[i] * elements
    evidence = Evidence(
        image_ids=pool.image_ids,
        dates=pool.dates,
        truth=pool.truth,
        predictions=predictions,
        members=np.stack([pool.members[i].predictions for i in decision.chosen]),
        unseen=np.zeros((0, *pool.truth.shape)) if unseen is None else unseen,
        projected=not shared(weights),
        refused=pool.refused,
        data=_data(pool),
    )
    return evidence, worth


def _data(pool: Pool) -> str:
    """Location of the data folder of the first member that a sweep trained."""
    for run in (member.run for member in pool.members if not member.external):
        try:
            return str(run.read_sweep().get("data", ""))
        except InputError:  # a blend needs no sweep.yaml; only the photographs on its page do
            return ""
    return ""
