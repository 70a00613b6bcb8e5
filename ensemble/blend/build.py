"""Building a blend folder from the finished trials of some runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.blend.blend import Blend, Evidence, Member, member_entry
from ensemble.estimate.conformal import calibrate
from ensemble.estimate.scores import Estimate, evaluate
from ensemble.estimate.tta_scores import ELEMENTS, tta_worth
from ensemble.members.members import Candidate, Pool, load_candidates
from ensemble.weighting.auto import Chosen, choose, procedure
from ensemble.weighting.greedy import TIE, Options
from ensemble.weighting.library import Library, combine, shared
from ensemble.weighting.methods import METHODS, WIDEST, check_options
from pasture.atomic import atomic_folder
from pasture.dataset import BALANCE_TOLERANCE_G
from pasture.errors import InputError
from pasture.files import Folder
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.projection import project
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS, Array, balance_gap
from trainables.images import d4
from trainables.network.backbone import create_backbone
from trainables.network.weights_file import pack, unpack
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import TtaName
from trainables.recipe.versions import versions


def build(
    runs: Sequence[RunFolder],
    out: Path,
    tta: TtaName,
    method: Chosen = "greedy",
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
        InputError: `out` exists, no trial can be blended, weights are missing or damaged, an option that the method
            does not look at.
        JobError: the folder cannot be written.
    """
    options = options or Options()
    check_options(method, options)
    if out.exists():
        raise InputError(f"{out}: exists already; choose another --out, or remove it")
    pool = load_candidates(runs, tta)
    estimate = evaluate(pool, procedure(method, options, scale))
    share = estimate.weights @ WEIGHTS
    chosen = [int(i) for i in np.argsort(-share, kind="stable") if estimate.weights[i].any()]
    warnings = [*pool.warnings, *estimate.notes, *_remarks(pool, estimate, method, options, chosen)]
    with atomic_folder(out, fixed_name=True) as partial:
        folder = Folder.at(partial)
        evidence, worth = _evidence(pool, estimate.weights, chosen)
        scores = _scores(estimate) | _making(pool, method, options, scale) | {"tta": _tta(evidence, worth)}
        members = [
            _write_member(folder, pool.candidates[i], estimate.weights[i], tta_scores)
            for i, tta_scores in zip(chosen, worth, strict=True)
        ]
        _write_oof(folder, pool, combine(estimate.weights, pool.predictions))
        day = np.unique(pool.dates, return_inverse=True)[1]
        conformal = None if estimate.unseen is None else calibrate(pool.truth, estimate.unseen, day)
        content = {
            "tta": tta,
            "fingerprint": pool.fingerprint,
            "scores": scores,
            "conformal": asdict(conformal) if conformal else None,
            "members": [member_entry(member) for member in members],
            "warnings": warnings,
            "versions": versions(),
        }
        folder.write("blend.json", json.dumps(content, indent=2).encode())
    return Blend(out, tta, pool.fingerprint, tuple(members), scores, conformal, warnings, evidence)


def _scores(estimate: Estimate) -> dict[str, Any]:
    names = ("fitted", "nested", "interval", "best_single", "uniform", "optimum", "gap", "baseline", "uniform_nested")
    return {name: getattr(estimate, name) for name in names}


def _tta(evidence: Evidence, worth: list[dict[str, float]]) -> dict[str, float]:
    """Score of the blend by number of D4 elements, as far as any of its members has them."""
    return {
        name: weighted_r2(evidence.truth, evidence.blended(elements))
        for name, elements in ELEMENTS.items()
        if any(name in scores for scores in worth)
    }


def _making(pool: Pool, method: Chosen, options: Options, scale: bool) -> dict[str, Any]:
    """How the blend was made, and what spoke for it."""
    choice = choose(Library.of(pool), options) if method == "auto" else None
    given = {name: value for name, value in asdict(options).items() if value != getattr(Options(), name)}
    return {
        "method": choice.name if choice else method,
        "options": given | ({"scale": True} if scale else {}),
        "auto": None if choice is None else {"nested": choice.scores, "behind": choice.behind, "error": choice.error},
    }


def _remarks(pool: Pool, estimate: Estimate, method: Chosen, options: Options, chosen: list[int]) -> list[str]:
    """What the reader of the scores should know that is of this blend alone."""
    remarks = []
    nested, uniform = estimate.nested, estimate.uniform_nested
    if method != "auto" and nested is not None and uniform is not None and uniform > nested + TIE:
        remarks.append(
            f"on new dates the plain mean of all candidates scores {uniform:.4f}, more than this blend: there are too "
            "few dates for so much choice; see --method auto"
        )
    solving = method == "auto" or METHODS[method].solves
    if solving and len(pool.candidates) > WIDEST and not options.limited:
        names = ", ".join(name for name, solver in METHODS.items() if solver.solves)
        remarks.append(
            f"methods that solve for all weights at once ({names}) have only looked at the {WIDEST} best of "
            f"{len(pool.candidates)} candidates"
        )
    gap = max(float(balance_gap(pool.candidates[i].predictions).max()) for i in chosen)
    if gap > BALANCE_TOLERANCE_G and shared(estimate.weights):
        projected = weighted_r2(pool.truth, project(combine(estimate.weights, pool.predictions)))
        remarks.append(
            f"imported members break the mass balance by up to {gap:.2f} g; scores are of predictions as they are, "
            "`forage predict` projects the blend onto the balance: "
            f"fitted {estimate.fitted:.4f}, projected {projected:.4f}"
        )
    return remarks


def _write_member(folder: Folder, candidate: Candidate, weights: Array, tta: dict[str, float]) -> Member:
    recipe, folds = None, 0
    if not candidate.imported:
        recipe = Recipe.parse(candidate.recipe, candidate.key)
        folds = _write_models(folder, candidate, recipe)
    return Member(
        key=candidate.key,
        weight=float(weights @ WEIGHTS),
        target_weights=() if (weights == weights[0]).all() else tuple(weights.tolist()),
        score=candidate.score,
        tta=tta,
        recipe=recipe,
        backbone=candidate.backbone_digest,
        semantic=candidate.semantic_digest,
        folds=folds,
        epoch=candidate.epoch,
        curve=candidate.curve,
    )


def _write_models(folder: Folder, candidate: Candidate, recipe: Recipe) -> int:
    """Copy a trial's recipe, fold weights and pretrained backbones; how many folds there are."""
    source = candidate.run.weights(candidate.trial)
    target = folder / "members" / candidate.key
    names = source.names(".safetensors")
    if len(names) != len(np.unique(candidate.folds)):
        raise InputError(f"{source}: {len(names)} fold weights, expected {len(np.unique(candidate.folds))}")
    for name in names:
        content = source.read(name)
        unpack(content, str(source / name))
        target.write(name, content)
    target.write("recipe.yaml", recipe.to_yaml().encode())
    _write_backbone(folder, candidate.key, recipe, candidate.backbone_digest)
    if recipe.semantic:
        _write_backbone(folder, candidate.key, recipe.semantic, candidate.semantic_digest)
    return len(names)


def _write_backbone(folder: Folder, key: str, recipe: Recipe, digest: str) -> None:
    if recipe.backbone.bank or folder.exists(f"backbones/{digest}.safetensors"):
        return
    backbone = create_backbone(recipe.backbone, recipe.view.size)
    if backbone.digest() != digest:
        raise InputError(
            f"{key}: backbone {recipe.backbone.name} with weights={recipe.backbone.weights} is not what the trial was "
            "trained on; put the same weights back"
        )
    folder.write(f"backbones/{digest}.safetensors", pack(backbone.model.state_dict(), {}))


def _write_oof(folder: Folder, pool: Pool, predictions: Array) -> None:
    metadata = {"trial": "blend", "recipe": {}, "recipe_hash": "", "epoch": 0, "fingerprint": pool.fingerprint}
    OofTable(pool.image_ids, pool.candidates[0].folds, predictions[:, None], metadata).write(folder, "oof.parquet")


def _evidence(pool: Pool, weights: Array, chosen: list[int]) -> tuple[Evidence, list[dict[str, float]]]:
    """What the blend is judged on, and the scores of each chosen member by number of D4 elements."""
    predictions = np.zeros((len(pool.image_ids), len(d4.ALL), len(TARGETS)))
    worth = []
    for i in chosen:
        table = pool.candidates[i].run.read_oof(pool.candidates[i].trial)
        row = {image: position for position, image in enumerate(table.image_ids)}
        elements = table.predictions[[row[image] for image in pool.image_ids]]
        worth.append(tta_worth(pool.truth, elements))
        predictions += weights[i] * elements
    projected = not shared(weights)
    return Evidence(pool.image_ids, pool.dates, pool.truth, predictions, projected, pool.refused), worth
