"""The page of a blend: what it is worth, what it is made of, and where it errs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.estimate.evidence import Evidence
from ensemble.estimate.outer_score import OuterScore
from ensemble.estimate.tta_scores import ELEMENTS
from forage.figures import blend_charts, groups
from forage.pages.data_folder import LARGE, SMALL, DataFolder, thumbnails
from forage.pages.maps import has_density, map_pictures
from forage.pages.page import Page
from pasture.errors import ForageError
from pasture.files import Folder
from pasture.targets import TARGETS, WEIGHTS, Array
from trainables.images.d4 import tta_elements

MOST_ROWS: Final = 100
SHOWN: Final = 8
"""Photographs with the largest and with the smallest error."""
MAPPED: Final = 4
"""The same, with density maps."""
MOST_PHOTOGRAPHS: Final = 1000
"""Photographs that appear over a chart at most, so that the page stays below 15 MB."""

_HELD_OUT: Final = (
    "The mean of the k best members, for every k, in which backbones weigh the same: ranked without each date in turn, "
    "then scored on it. The largest k is taken whose loss is not above the least by more than two standard errors over "
    "dates."
)
_GREEDY: Final = (
    "Each step adds the member that raises the score of the mean most; one that is added again has more weight. Scores "
    "are on the images that members are chosen by, so they are too high. The blend ends at the best score."
)


def blend_page(blend: Blend, data: str = "", outer_cv: Path | None = None) -> Page:
    """The page of a blend that was built or read.

    Args:
        blend: with its evidence, or with an evidence.npz in its folder.
        data: location of the data folder; that of its runs by default.
        outer_cv: folder of a finished `forage outer-cv` on the same data, for the outer score.

    Raises:
        InputError: no evidence.npz, or a damaged one; `outer_cv` has no score of such a blend.
    """
    evidence = blend.evidence or Evidence.read(Folder.at(blend.folder))
    outer = None
    if outer_cv is not None:
        refitted = all(member.folds == 1 for member in blend.members)
        outer = OuterScore.read(outer_cv, blend.estimate["method"], refitted, set(evidence.dates.tolist()))
    folder = DataFolder.find(data or evidence.data, evidence.image_ids, evidence.truth)
    page = Page(f"Blend {blend.folder.name}")
    page.text(
        "Scores are the competition's globally weighted R², out of fold. Quote the nested score: members, weights and "
        "method were chosen without the dates on which it is computed."
    )
    _cards(page, blend, evidence)
    for warning in blend.warnings:
        page.note(warning)
    _scores(page, blend, outer)
    _targets(page, blend.estimate["targets"])
    _members(page, blend, evidence)
    _photographs(page, blend, evidence, folder)
    _errors(page, blend, evidence, folder)
    if evidence.refused:
        refused = evidence.refused[:MOST_ROWS]
        page.table("Left out", f"{len(refused)} of {len(evidence.refused)}.", ["trial", "reason"], refused)
    return page


def _cards(page: Page, blend: Blend, evidence: Evidence) -> None:
    estimate, interval = blend.estimate, blend.estimate["interval"]
    page.cards(
        [
            (_number(estimate["nested"]), "nested score"),
            (_interval(interval), "its 95 % interval, over dates"),
            (_number(estimate["baseline"]), "predicting each target's mean"),
            (f"{estimate['gap']:.4f}", "fitted score below the best convex weights"),
            (str(len(blend.members)), f"members, by method {estimate['method']}"),
            (f"{len(evidence.image_ids)} / {len(set(evidence.dates))}", "images / dates"),
        ]
    )


def _scores(page: Page, blend: Blend, outer: OuterScore | None) -> None:
    estimate = blend.estimate
    caption = (
        "Bars are 95 % intervals over dates. The mean of all "
        "candidates has no weights to choose, so its two scores differ only where epochs were chosen by score."
    )
    figure = blend_charts.scores(estimate, None if outer is None else (outer.r2, outer.interval))
    page.figure("Scores of the blend", caption, figure)
    caption = "From top to bottom, less of the procedure has seen the images that the score is computed on."
    columns = ["score", "R²", "95 % interval", "what it says"]
    page.table("Fitted, nested and outer score", caption, columns, _three_scores(estimate, outer))
    if estimate["auto"]:
        caption = (
            "Each scored on dates held out, over 2 groupings of the dates. The simplest method that is behind the best "
            "by at most one standard error over dates is chosen. These scores choose; do not quote them: the nested "
            "score, over 5 other groupings, contains this choice."
        )
        page.table("Methods", caption, ["method", "held out", "behind the best", "standard error"], _methods(estimate))


def _three_scores(estimate: dict[str, Any], outer: OuterScore | None) -> list[list[str]]:
    fitted = "Members and weights were chosen on the images that it is computed on, so it is too high."
    nested = (
        "Members and weights were chosen without the dates that it is computed on; the search that proposed the "
        "members has seen those dates."
    )
    rows = [
        ["fitted", _number(estimate["fitted"]), "-", fitted],
        ["nested", _number(estimate["nested"]), _interval(estimate["interval"]), nested],
    ]
    if outer is None:
        said = "Not measured; forage outer-cv repeats the search as well without the dates that it is computed on."
        return [*rows, ["outer", "-", "-", said]]
    said = (
        f"The mean of {outer.seeds} seed(s) of whole sweeps blended by {outer.strategy.removeprefix('search: ')}: "
        "neither search nor blend has seen the dates it is computed on. It judges the procedure, not these members."
    )
    return [*rows, ["outer", _number(outer.r2), _interval(outer.interval), said]]


def _targets(page: Page, targets: dict[str, dict[str, float | None]]) -> None:
    nested = any(scores["nested_r2"] is not None for scores in targets.values())
    kind, where = ("nested_r2", "on dates held out") if nested else ("r2", "on the images it was fitted to")
    weak = [name for name, scores in targets.items() if (scores[kind] or 0.0) < 0.2]
    caption = f"R² of each target about its own mean, {where}: 0 is the score of predicting the mean."
    if weak:
        caption += f" Barely predicted: {', '.join(weak)}."
    page.figure("Score of each target", caption, blend_charts.target_scores(targets, kind))
    rows = [
        [
            name,
            _number(scores["nested_r2"]),
            _grams(scores["nested_rmse"]),
            _grams(scores["nested_bias"], "+.2f"),
            _grams(scores["sd"]),
            _number(scores["r2"]),
            _grams(scores["rmse"]),
            _grams(scores["bias"], "+.2f"),
        ]
        for name, scores in targets.items()
    ]
    caption = "In grams. Bias is the mean of prediction minus truth. RMSE of the mean: the RMSE of predicting the mean."
    columns = ["target", "nested R²", "RMSE", "bias", "RMSE of the mean", "fitted R²", "fitted RMSE", "fitted bias"]
    page.table("Errors of each target", caption, columns, rows)


def _members(page: Page, blend: Blend, evidence: Evidence) -> None:
    keys, shares = [member.key for member in blend.members], np.stack([member.shares for member in blend.members])
    caption = f"Alone: the member's own out-of-fold score with TTA {blend.tta}; then with 1, 2, 4, 8 elements of D4."
    if any(member.target_weights for member in blend.members):
        caption += " A weight is the mean of those of the five targets, weighted as in the metric."
    elements = [f"D4: {number}" for number in ELEMENTS]
    columns = ["trial", "weight", "alone", *elements, "backbone", "tuning", "view", "recipe", "models"]
    page.table("Members", caption, columns, [_member_row(member) for member in blend.members])
    if taken := blend.estimate.get("steps"):
        how = _HELD_OUT if taken["held_out"] else _GREEDY
        page.figure(
            "How members were chosen", f"{how} Steps of this blend: {taken['kept']}.", blend_charts.steps(taken)
        )
    if len(keys) > 1 and len(evidence.members) == len(keys):
        caption = (
            "Members join in the order of their weights, of equal weights the better first. Out of fold: too high."
        )
        page.figure("Score by number of members", caption, blend_charts.score_by_members(evidence, shares, keys))
        caption = "Weighted as in the metric. Members whose errors are alike add little to each other."
        figure = blend_charts.residual_correlation(evidence, keys)
        page.figure("Correlation of the members' residuals", caption, figure)
    caption = "Fitted score of the blend when predictions are averaged over more flips and quarter turns (D4)."
    if worse := [warning for warning in blend.warnings if warning.startswith("test-time augmentation")]:
        caption += f" {worse[0][0].upper()}{worse[0][1:]}."
    page.figure("Test-time augmentation", caption, blend_charts.worth_of_tta(blend.estimate["tta"]))


def _photographs(page: Page, blend: Blend, evidence: Evidence, folder: DataFolder | None) -> None:
    predictions = _judged(blend, evidence)
    kind = "on dates held out" if len(evidence.unseen) else "out of fold"
    page.figure(
        "Predicted against true",
        f"Dry weight in grams, {kind}; one dot for each image. On the line, the prediction is exact.",
        blend_charts.predicted_against_true(evidence, predictions),
        min_width=560,
    )
    if folder is None:
        page.text("Photographs, states and species are absent: give the data folder with forage report --data.")
        return
    small = thumbnails(folder.paths[:MOST_PHOTOGRAPHS], SMALL)
    page.hover_photographs({str(i): uri for i, uri in enumerate(small) if uri})
    order = np.argsort(-((evidence.truth - predictions) ** 2 @ WEIGHTS), kind="stable")
    for heading, chosen, caption in (
        ("The worst photographs", order[:SHOWN], "Largest weighted squared error first."),
        ("The best photographs", order[::-1][:SHOWN], "Smallest weighted squared error first."),
    ):
        uris = thumbnails([folder.paths[i] for i in chosen], LARGE)
        shown = [
            (uri, _described(evidence, predictions, folder, int(i))) for uri, i in zip(uris, chosen, strict=True) if uri
        ]
        page.photographs(heading, f"{caption} In grams: true, then predicted {kind}.", shown)
    if has_density(blend):
        _maps(page, blend, evidence, folder, order)


def _maps(page: Page, blend: Blend, evidence: Evidence, folder: DataFolder, order: NDArray[np.intp]) -> None:
    """Density maps of the photographs at both ends of an order, from the worst to the best."""
    chosen = [int(i) for i in (*order[:MAPPED], *order[max(MAPPED, len(order) - MAPPED) :])]
    try:
        pictures = map_pictures(blend, folder.images, [evidence.image_ids[i] for i in chosen])
    except ForageError as error:
        page.note(f"no density maps: {error}")
        return
    predictions = _judged(blend, evidence)
    shown = [
        (
            uri,
            f"{'worst' if place < MAPPED else 'best'}: {_described(evidence, predictions, folder, i)}".replace(
                "\n", "; "
            ),
        )
        for place, (uri, i) in enumerate(zip(pictures, chosen, strict=True))
    ]
    page.photographs(
        "Density maps",
        "Grams per cell of the worst and the best photographs, by the members with a density head, without test-time "
        "augmentation. Most of their models were trained on these photographs, so the sums above the panels are closer "
        "to the truth than the predictions below.",
        shown,
        large=True,
    )


def _described(evidence: Evidence, predictions: Array, folder: DataFolder, i: int) -> str:
    facts = ", ".join(fact for fact in (evidence.dates[i], folder.states[i], folder.species[i]) if fact)
    weights = [
        f"{target.removeprefix('Dry_').removesuffix('_g')} {true:.1f}, {predicted:.1f}"
        for target, true, predicted in zip(TARGETS, evidence.truth[i], predictions[i], strict=True)
    ]
    return "\n".join([evidence.image_ids[i], facts, *weights])


def _errors(page: Page, blend: Blend, evidence: Evidence, folder: DataFolder | None) -> None:
    predictions = _judged(blend, evidence)
    by = groups.of_dates(list(evidence.dates))
    if folder:
        by = {"state": folder.states, "species": folder.species} | by
    kind = "Nested predictions" if len(evidence.unseen) else "Out-of-fold predictions"
    caption = f"{kind}. A date with a larger share of the error than of the images is hard, or decides the score."
    page.figure("Error by date", caption, groups.shares(evidence.truth, predictions, by["date"]))
    if folder:
        page.figure("Error by state", kind + ".", groups.shares(evidence.truth, predictions, folder.states))
        page.figure("Error by species", kind + ".", groups.shares(evidence.truth, predictions, folder.species))
    page.table("Where the blend errs", kind + ".", groups.COLUMNS, groups.rows(evidence.truth, predictions, by))
    if figure := blend_charts.calibration(evidence):
        caption = (
            "Share of photographs whose truth lies in the interval that `forage predict --uncertainty` would write, "
            "each date with an interval made from the other dates. Above the dashed line, intervals are wider than "
            "needed."
        )
        page.figure("Calibration of the intervals", caption, figure)


def _judged(blend: Blend, evidence: Evidence) -> Array:
    """(n, 5) predictions by which photographs are judged: nested ones where there are any."""
    return evidence.unseen.mean(axis=0) if len(evidence.unseen) else evidence.blended(tta_elements(blend.tta))


def _methods(estimate: dict[str, Any]) -> list[list[str]]:
    facts = estimate["auto"]
    return [
        [name, *(_number(facts[fact][name]) for fact in ("held_out", "behind", "error"))] for name in facts["held_out"]
    ]


def _member_row(member: BlendMember) -> list[str]:
    recipe = member.recipe
    words = (recipe.backbone.tuning, f"{recipe.view.kind} {recipe.view.size} px", recipe.hash) if recipe else "---"
    worth = (_number(member.tta.get(elements)) for elements in ELEMENTS)
    models = str(member.folds or "-")
    return [member.key, f"{member.weight:.3f}", f"{member.score:.4f}", *worth, member.what, *words, models]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"


def _grams(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)
