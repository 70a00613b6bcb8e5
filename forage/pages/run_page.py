"""The page of a run: what the search tried, what came of it, and what it cost."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import pandas as pd
import yaml

from forage.figures import field_charts, groups, trial_charts
from forage.figures.charts import ScoreAxis
from forage.figures.study import importances
from forage.pages.data_folder import DataFolder
from forage.pages.page import Page
from pasture.errors import InputError
from pasture.metric import baseline_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from search_spaces.space import Space
from trainables.images import d4
from tune.pruning.pruners import make_pruner
from tune.records.ledger import Ledger, Record, Status
from tune.records.plan import Plan

MOST_ROWS: Final = 500
MOST_PANELS: Final = 1000
"""Recipes of at most so many trials are part of the page."""
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast, where PyYAML has it
_ENDED: Final[tuple[Status, ...]] = ("COMPLETE", "PRUNED", "FAILED")


def run_page(run: RunFolder, data: str = "") -> Page:
    """The page of a run directory, also while the sweep runs.

    Args:
        run: the run directory.
        data: location of the data folder; that of sweep.yaml by default.

    Raises:
        InputError: no run directory, or truth or a record of a trial is missing or damaged.
    """
    plan, ledger = Plan.read(run), Ledger(run)
    space = Space.parse(plan.space, "sweep.yaml")
    truth = run.read_truth()
    records = list(ledger.records.values())
    scored = [r for r in records if r.status in ("COMPLETE", "PRUNED", "WAITING") and r.score is not None]
    baseline = baseline_r2(truth[list(TARGETS)].to_numpy(dtype=float))
    page = Page(f"Run {run.name}")
    page.text(
        "A trial is one recipe, trained on all folds in lock-step. Its score is the competition's globally weighted R² "
        "over all images, each predicted by the model that has not seen it, at the epoch that the recipe chooses."
    )
    _cards(page, ledger, plan, baseline)
    if scored:
        _scores(page, ledger, scored, baseline, _rungs(plan, space))
        _fields(page, scored, baseline, space)
        _best(page, run, ledger, data or plan.data, truth)
        _cost(page, records)
        _trials_table(page, scored)
    _failures(page, ledger)
    _panel(page, run, ledger, plan)
    return page


def _cards(page: Page, ledger: Ledger, plan: Plan, baseline: float) -> None:
    best, records = ledger.best(), list(ledger.records.values())
    counts = {status: len(ledger.with_status(status)) for status in (*_ENDED, "WAITING", "RUNNING")}
    used = sum(trial_charts.seconds(r) for r in records)
    saved = trial_charts.saved_by_pruning(records)
    page.cards(
        [
            (f"{best.score:.4f}" if best else "-", f"best score, {best.name}" if best else "no complete trial yet"),
            (f"{baseline:.4f}", "predicting each target's mean"),
            *((str(count), status.lower()) for status, count in counts.items() if count or status in _ENDED),
            (str(plan.trials), "trials planned"),
            (_clock(used), "computed by all trials"),
            *([(_clock(saved), f"saved by pruning ({plan.pruner})")] if counts["PRUNED"] else []),
        ]
    )


def _scores(page: Page, ledger: Ledger, scored: Sequence[Record], baseline: float, rungs: Sequence[int]) -> None:
    best = ledger.best()
    waits = " A waiting trial has trained the first stage." if ledger.with_status("WAITING") else ""
    below = ScoreAxis.of(trial_charts.scores(scored), baseline).below(trial_charts.scores(scored))
    outside = (
        f" {below} trial(s) are below the axis and drawn as triangles at its end; double-click to see the whole range."
        if below
        else ""
    )
    caption = f"A pruned trial is shown at the score at which it was stopped.{waits}{outside} Click for the recipe."
    page.figure("Score of every trial", caption, trial_charts.score_by_trial(scored, baseline))
    caption = "Out-of-fold score after every epoch."
    shown = [*scored, *(r for r in ledger.with_status("RUNNING") if r.curve)]
    rungs = [rung for rung in rungs if any(len(r.curve) >= rung for r in shown)]
    if rungs:
        caption += f" Dotted lines: epochs {', '.join(map(str, rungs))}, at which the pruner compares trials."
    if cut := len(ledger.with_status("PRUNED")):
        caption += f" {cut} cut by the pruner."
    page.figure("Learning curves", caption, trial_charts.learning_curves(shown, best, baseline, rungs))


def _fields(page: Page, scored: Sequence[Record], baseline: float, space: Space) -> None:
    names = field_charts.searched(scored)
    if not names:
        return
    logarithmic = [p.field for p in space.parameters if p.kind == "log_uniform"]
    found = importances(scored, space.parameters)
    if found:
        complete = sum(r.status == "COMPLETE" for r in scored)
        first = found["fANOVA"]
        names.sort(key=lambda name: -first.get(name, -1.0))
        caption = (
            "How much of the variation of the scores a field explains among complete trials (fANOVA, F. Hutter et al. "
            "2014), and how much it separates the best trials from the rest (PED-ANOVA, S. Watanabe et al. 2023). Only "
            f"fields that all complete trials have. From {complete} trials: with fewer than 30 it is unreliable."
        )
        page.figure("Importance of the searched fields", caption, field_charts.importances(found))
    shown = min(len(names), field_charts.MOST_FIELDS)
    caption = f"{shown} of {len(names)} searched recipe fields. A pruned trial has the score of its last epoch."
    page.figure(
        "Score against each searched field",
        caption,
        field_charts.slices(scored, names, baseline, logarithmic),
        min_width=720,
    )
    whole = [r for r in scored if r.status == "COMPLETE"]
    if field_charts.searched(whole):
        page.figure(
            "Parallel coordinates",
            "One line for each complete trial, coloured by its score. Drag along an axis to select a range of values.",
            field_charts.parallel_coordinates(whole, names, logarithmic),
            min_width=110 * min(len(names) + 1, 9),
        )


def _best(page: Page, run: RunFolder, ledger: Ledger, data: str, truth: pd.DataFrame) -> None:
    best = ledger.best()
    if best is None:
        return
    caption = (
        f"R² of each target on its own, {best.name} at the epoch of its score. 0 is the score of predicting the "
        "target's mean; a target below 0 is predicted worse than that."
    )
    page.figure("The best trial, target by target", caption, trial_charts.target_scores(best))
    table = _oof(run, best.name)
    if table is None:
        return
    own = truth.loc[table.image_ids]
    grams, predictions = own[list(TARGETS)].to_numpy(dtype=float), table.mean((d4.IDENTITY,))
    by = groups.of_dates(list(own["date"])) | {"fold": [str(fold) for fold in table.folds]}
    folder = DataFolder.find(data, table.image_ids, grams)
    if folder:
        by = {"state": folder.states, "species": folder.species} | by
    caption = f"Out-of-fold predictions of {best.name}, without test-time augmentation."
    if folder is None:
        caption += f" States and species are absent: the data folder {data} cannot be read."
    page.table("Where the best trial errs", caption, groups.COLUMNS, groups.rows(grams, predictions, by))
    caption = "A date with a larger share of the error than of the images is hard, or decides the score."
    page.figure("Error of the best trial by date", caption, groups.shares(grams, predictions, by["date"]))


def _cost(page: Page, records: Sequence[Record]) -> None:
    saved = trial_charts.saved_by_pruning(records)
    waited = [r.waited for r in records if r.waited is not None]
    wait = (
        f"{len(waited)} trial(s) waited for a worker for {_clock(sum(waited))} in all, the longest "
        f"{_clock(max(waited))}, from their proposal to their start. "
        if waited
        else ""
    )
    caption = (
        f"Seconds that trials reported, all folds together. {wait}"
        f"Pruned trials would have taken {_clock(saved)} longer at their own speed."
    )
    page.figure("Time by backbone", caption, trial_charts.seconds_by(records, "backbone.name"))


def _trials_table(page: Page, scored: Sequence[Record]) -> None:
    names = field_charts.searched(scored)
    top = sorted(scored, key=lambda r: -(r.score or 0.0))[:MOST_ROWS]
    rows = [
        [r.name, r.status.lower(), _number(r.score), *_effort(r), *(_text(r.params.get(name)) for name in names)]
        for r in top
    ]
    columns = ["trial", "status", "R²", "epochs", "best epoch", "seconds", "waited", "node", *names]
    page.table("Trials", f"{len(top)} of {len(scored)}, best first.", columns, rows, trials=True)


def _failures(page: Page, ledger: Ledger) -> None:
    failed = ledger.with_status("FAILED")
    if failed:
        rows = [[r.name, str(len(r.curve)), r.error] for r in failed[:MOST_ROWS]]
        caption = (
            f"{len(rows)} of {len(failed)}. A click shows the recipe. `forage status RUN --trial` has the traceback."
        )
        page.table("Failed trials", caption, ["trial", "epochs", "error"], rows, trials=True)


def _panel(page: Page, run: RunFolder, ledger: Ledger, plan: Plan) -> None:
    """Recipes of the trials, or of the best ones where there are very many."""
    known = [r for r in ledger.records.values() if r.recipe]
    known = sorted(known, key=lambda r: -1e9 if r.score is None else r.score, reverse=True)[:MOST_PANELS]
    if not known:
        return
    best = ledger.best()
    trials = {r.name: _facts(run, plan, r) for r in sorted(known, key=lambda r: r.number)}
    page.trial_panel(trials, best.name if best else known[0].name)


def _facts(run: RunFolder, plan: Plan, record: Record) -> dict[str, str]:
    score = "no score" if record.score is None else f"score {record.score:.4f}"
    facts = f"{record.name}: {record.status.lower()}, {score}, {len(record.curve)} epoch(s), origin: {record.origin}"
    file, name = f"{record.name}.yaml", f"{run.name}-{record.name}"
    words = ["forage", "train", plan.data, "--recipe", file, "--name", name]
    return {
        "facts": f"{facts}. {record.error}".strip(),
        "command": shlex.join(words),
        "yaml": yaml.dump(record.recipe, Dumper=_DUMPER, sort_keys=False, default_flow_style=False),
    }


def _rungs(plan: Plan, space: Space) -> tuple[int, ...]:
    try:
        pruner = make_pruner(
            plan.pruner, space.epochs, grace=plan.grace, reduction=plan.reduction, promote=plan.promote
        )
    except InputError:  # no rung before the last epoch
        return ()
    return pruner.rungs


def _oof(run: RunFolder, trial: str) -> OofTable | None:
    """OOF of a trial; None where it is not kept, or damaged: the rest of the page does not depend on it."""
    try:
        return run.read_oof(trial)
    except InputError:
        return None


def _effort(record: Record) -> tuple[str, ...]:
    waited = "-" if record.waited is None else f"{record.waited:.0f}"
    seconds = f"{trial_charts.seconds(record):.0f}"
    return str(len(record.curve)), str(record.curve[-1]["best_epoch"]), seconds, waited, record.where or "-"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
