"""The report pages of a run and of a blend. Each is one HTML file that can be viewed offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.estimate.tta_scores import ELEMENTS
from forage import blend_charts, run_charts
from forage.charts import score_range
from forage.page import Page
from pasture.files import Folder
from pasture.metric import baseline_r2
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from trainables.images.d4 import tta_elements
from tune.records.ledger import Ledger, Record, Status

NAME = "report.html"
MOST_ROWS = 20


def attempt(write: Callable[[], str], say: Callable[[str], None]) -> None:
    """Write a report and print its location. If it fails, print a warning: the results are not affected."""
    try:
        say(f"report: {write()}")
    except Exception as error:
        say(f"warning: no report ({type(error).__name__}: {error})")


def write_run_report(run: RunFolder) -> str:
    """Write report.html into a run directory, also while the sweep runs, and return its location.

    Raises:
        InputError: truth or a record of a trial is missing or damaged.
        JobError: the page cannot be written.
    """
    ledger = Ledger(run)
    records = list(ledger.records.values())
    scored = [r for r in records if r.status in ("COMPLETE", "PRUNED", "WAITING") and r.score is not None]
    best = ledger.best()
    baseline = baseline_r2(run.read_truth()[list(TARGETS)].to_numpy(dtype=float))

    page = Page(f"Run {run.name}")
    page.text(
        "A trial is one recipe, trained on all folds in lock-step. Its score is the competition's globally weighted R² "
        "over all images, each predicted by the model that has not seen it, at the epoch that the recipe chooses."
    )
    ended: tuple[Status, ...] = ("COMPLETE", "PRUNED", "FAILED")
    counts = {status: len(ledger.with_status(status)) for status in (*ended, "WAITING", "RUNNING")}
    page.cards(
        [
            (f"{best.score:.4f}" if best else "-", f"best score, {best.name}" if best else "no complete trial yet"),
            (f"{baseline:.4f}", "predicting each target's mean"),
            *((str(count), status.lower()) for status, count in counts.items() if count or status in ended),
        ]
    )
    if scored:
        names = run_charts.searched(records)
        waits = " A waiting trial has trained the first stage." if counts["WAITING"] else ""
        caption = f"A pruned trial is shown at the score at which it was stopped.{waits}{_below(scored, baseline)}"
        page.figure("Score of every trial", caption, run_charts.score_by_trial(scored, baseline))
        caption = "Out-of-fold score after every epoch."
        page.figure("Learning curves", caption, run_charts.learning_curves(scored, best, baseline))
        if names:
            shown = min(len(names), run_charts.MOST_PARAMETERS)
            caption = f"{shown} of {len(names)} searched recipe fields. A pruned trial has the score of its last epoch."
            figure = run_charts.parameters(scored, names, baseline)
            page.figure("Score against each searched field", caption, figure)
        if best:
            caption = f"R² of each target on its own, {best.name} at the epoch that counts."
            page.figure("The best trial, target by target", caption, run_charts.target_scores(best))
        _trials_table(page, scored, names)
    if counts["FAILED"]:
        failed = ledger.with_status("FAILED")[:MOST_ROWS]
        caption = f"{len(failed)} of {counts['FAILED']}."
        page.table("Failed trials", caption, ["trial", "error"], [(r.name, r.error) for r in failed])
    return _write(page, run.folder)


def write_blend_report(blend: Blend) -> str:
    """Write report.html into the folder of a blend that has just been built, and return its location.

    Raises:
        ValueError: the blend was read from its folder, which does not keep the truth.
        JobError: the page cannot be written.
    """
    evidence, estimate = blend.evidence, blend.estimate
    if evidence is None:
        raise ValueError("a blend's report needs the evidence that `build` returns; a blend that was read has none")
    interval = estimate["interval"]
    page = Page(f"Blend {blend.folder.name}")
    page.text(
        "Scores are the competition's globally weighted R², out of fold. Quote the nested score: members, weights and "
        "method were chosen without the dates on which it is computed."
    )
    page.cards(
        [
            (_number(estimate["nested"]), "nested score"),
            (f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-", "its 95 % interval, over dates"),
            (_number(estimate["baseline"]), "predicting each target's mean"),
            (f"{estimate['gap']:.4f}", "fitted score below the best convex weights"),
            (str(len(blend.members)), f"members, by method {estimate['method']}"),
            (f"{len(evidence.image_ids)} / {len(set(evidence.dates))}", "images / dates"),
        ]
    )
    for warning in blend.warnings:
        page.note(warning)
    caption = "The bar is the 95 % interval of the nested score, by leaving out each date in turn."
    page.figure("Scores of the blend", caption, blend_charts.scores(blend))
    if estimate["auto"]:
        caption = (
            "Each scored on dates held out. The simplest method that is behind the best by at most one standard error "
            "over dates is chosen."
        )
        page.table("Methods", caption, ["method", "nested", "behind the best", "standard error"], _methods(estimate))
    caption = f"Alone: the member's own out-of-fold score with TTA {blend.tta}; then with 1, 2, 4, 8 elements of D4."
    if any(member.target_weights for member in blend.members):
        caption += " A weight is the mean of those of the five targets, weighted as in the metric."
    elements = [f"D4: {number}" for number in ELEMENTS]
    columns = ["trial", "weight", "alone", *elements, "backbone", "tuning", "view", "recipe", "models"]
    page.table("Members", caption, columns, [_member_row(member) for member in blend.members])
    page.figure(
        "Predicted against true",
        "Dry weight in grams, out of fold; one dot for each image. On the line, the prediction is exact.",
        blend_charts.predicted_against_true(evidence, tta_elements(blend.tta)),
    )
    caption = "Fitted score of the blend when predictions are averaged over more flips and quarter turns (D4)."
    page.figure("Test-time augmentation", caption, blend_charts.worth_of_tta(estimate["tta"]))
    if evidence.refused:
        refused = evidence.refused[:MOST_ROWS]
        page.table("Left out", f"{len(refused)} of {len(evidence.refused)}.", ["trial", "reason"], refused)
    return _write(page, Folder.at(blend.folder))


def _trials_table(page: Page, scored: Sequence[Record], names: Sequence[str]) -> None:
    top = sorted(scored, key=lambda r: -(r.score or 0.0))[:MOST_ROWS]
    rows = [
        [r.name, r.status.lower(), _number(r.score), *_effort(r), *(_text(r.params.get(name)) for name in names)]
        for r in top
    ]
    columns = ["trial", "status", "R²", "epochs", "best epoch", "seconds", *names]
    page.table("The best trials", f"{len(top)} of {len(scored)}, best first.", columns, rows)


def _effort(record: Record) -> tuple[str, str, str]:
    seconds = sum(report["seconds"] for report in record.curve)
    return str(len(record.curve)), str(record.curve[-1]["best_epoch"]), f"{seconds:.0f}"


def _methods(estimate: dict[str, Any]) -> list[list[str]]:
    facts = estimate["auto"]
    return [[name, *(_number(facts[fact][name]) for fact in ("nested", "behind", "error"))] for name in facts["nested"]]


def _member_row(member: BlendMember) -> list[str]:
    recipe = member.recipe
    words = (recipe.backbone.tuning, f"{recipe.view.kind} {recipe.view.size} px", recipe.hash) if recipe else "---"
    worth = (_number(member.tta.get(elements)) for elements in ELEMENTS)
    models = str(member.folds or "-")
    return [member.key, f"{member.weight:.3f}", f"{member.score:.4f}", *worth, member.what, *words, models]


def _below(scored: Sequence[Record], baseline: float) -> str:
    low = score_range([r.score for r in scored if r.score is not None], baseline)[0]
    count = sum(r.score is not None and r.score < low for r in scored)
    return f" {count} trial(s) are below the axis." if count else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(page: Page, folder: Folder) -> str:
    folder.write(NAME, page.html().encode())
    return str(folder / NAME)
