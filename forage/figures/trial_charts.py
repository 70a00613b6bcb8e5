"""Charts of trials over time: scores in order of proposal, learning curves, targets of the best trial, time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from forage.figures.charts import (
    BAD,
    BEST,
    DIM,
    GOOD,
    RUNS,
    WAITS,
    ScoreAxis,
    bars,
    baseline_line,
    framed,
    label,
    whole_numbers,
)
from pasture.targets import TARGETS
from tune.records.ledger import Record

SCORE = "R² (out of fold)"
MOST_MARKERS = 1000
"""Learning curves with more points than this are drawn without a marker at each."""
_UNITS = (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0))


def score_by_trial(records: Sequence[Record], baseline: float) -> go.Figure:
    """Score of every trial in the order of proposal, and the best so far of those complete."""
    figure = go.Figure()
    axis = ScoreAxis.of(scores(records), baseline)
    for status, color in colors(records):
        chosen = [r for r in records if r.status == status]
        figure.add_scatter(x=[r.number for r in chosen], y=axis.shown(scores(chosen)), **dots(chosen, color, axis))
        figure.data[-1].name = status.lower()
    complete = [r for r in records if r.status == "COMPLETE"]
    best = list(itertools.accumulate(scores(complete), max))
    line = {"color": BEST, "shape": "hv"}
    numbers = [r.number for r in complete]
    figure.add_scatter(x=numbers, y=axis.shown(best), mode="lines", line=line, name="best so far", hoverinfo="skip")
    baseline_line(figure, baseline)
    figure.update_xaxes(title="trial, in order", **whole_numbers(len(records)))
    figure.update_yaxes(title=SCORE, range=axis.ends)
    return framed(figure, 380)


def learning_curves(
    records: Sequence[Record], best: Record | None, baseline: float, rungs: Sequence[int] = ()
) -> go.Figure:
    """Score of each epoch of every trial, the rungs at which trials are compared, and where each was pruned."""
    figure = go.Figure()
    # A marker is an element of its own in the page, and thousands of them take a browser seconds.
    few = sum(len(r.curve) for r in records) <= MOST_MARKERS
    others = [r for r in records if r is not best]
    axis = ScoreAxis.of([e["epoch_score"] for r in records for e in r.curve], baseline)
    for name, color, width, chosen in (
        *((status.lower(), color, 1, [r for r in others if r.status == status]) for status, color in colors(records)),
        (f"best ({best.name})" if best else "best", BEST, 3, [best] if best else []),
    ):
        # One trace for all curves of a kind, with gaps between them: thousands of traces would be slow.
        points = [p for r in chosen for p in (*((e["epoch"], e["epoch_score"], r.name) for e in r.curve), (None,) * 3)]
        x, y, names = zip(*points, strict=True) if points else ((), (), ())
        line = {"color": color, "width": width}
        mode = "lines+markers" if few or chosen == [best] else "lines"
        figure.add_scatter(x=x, y=y, text=names, customdata=names, mode=mode, marker={"size": 3}, line=line)
        figure.data[-1].name = name
    cut = [r for r in records if r.status == "PRUNED"]
    last = [r.curve[-1] for r in cut]
    ends = [e["epoch_score"] for e in last]
    text = [f"{r.name}, pruned after epoch {len(r.curve)}: {score:.4f}" for r, score in zip(cut, ends, strict=True)]
    marker = {"symbol": "x", "size": 8, "color": BAD}
    figure.add_scatter(
        x=[e["epoch"] for e in last], y=axis.shown(ends), text=text, customdata=[r.name for r in cut], mode="markers",
        marker=marker, name="pruned here", hoverinfo="text",
    )  # fmt: skip
    longest = max(len(r.curve) for r in records)
    for rung in rungs:
        if rung <= longest:
            figure.add_vline(x=rung, line={"color": WAITS, "dash": "dot", "width": 1}, opacity=1)
    baseline_line(figure, baseline)
    figure.update_xaxes(title="epoch", **whole_numbers(longest))
    figure.update_yaxes(title=SCORE, range=axis.ends)
    return framed(figure, 400)


def target_scores(best: Record) -> go.Figure:
    """R2 of each target of the best trial, at the epoch that counts; 0 is the target's mean, and a bar ends at -1."""
    report = best.curve[int(best.curve[-1]["best_epoch"]) - 1]
    values = [report[f"r2_{target}"] for target in TARGETS]
    return bars([target.removesuffix("_g") for target in TARGETS], values, ".2f", "R² of the target alone", limit=1.0)


def seconds_by(records: Sequence[Record], group: str) -> go.Figure:
    """Time of computing by the value of a recipe section's field, one colour for each status.

    Args:
        records: with a recipe.
        group: `section.field`.
    """
    section, field = group.split(".")
    totals: dict[tuple[str, str], float] = {}
    for record in records:
        if record.recipe and record.curve:
            key = label(record.recipe[section][field]), record.status
            totals[key] = totals.get(key, 0.0) + seconds(record)
    names = sorted(
        {name for name, _ in totals}, key=lambda n: -sum(v for (other, _), v in totals.items() if other == n)
    )
    unit, size = max(
        (u for u in _UNITS if u[1] <= max(totals.values(), default=0.0)), key=lambda u: u[1], default=_UNITS[0]
    )
    figure = go.Figure()
    for status, color in (("COMPLETE", GOOD), ("PRUNED", DIM), ("WAITING", WAITS), ("FAILED", BAD), ("RUNNING", RUNS)):
        time = [totals.get((name, status), 0.0) / size for name in names]
        if any(time):
            figure.add_bar(y=names, x=time, orientation="h", name=status.lower(), marker_color=color)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title=f"{unit}, all trials together")
    figure.update_yaxes(autorange="reversed", type="category")
    return framed(figure, 140 + 28 * len(names))


def seconds(record: Record) -> float:
    """Seconds that a trial has computed for, as it reported them."""
    return float(sum(report["seconds"] for report in record.curve))


def saved_by_pruning(records: Sequence[Record]) -> float:
    """Seconds that pruned trials would have taken for their remaining epochs, at their own speed.

    The first epoch, which may include the time to compute features, is not part of a trial's speed where it has more.
    """
    saved = 0.0
    for record in records:
        if record.status == "PRUNED" and record.curve and record.recipe:
            left = int(record.recipe["schedule"]["epochs"]) - len(record.curve)
            speed = record.curve[1:] or record.curve
            saved += max(left, 0) * sum(e["seconds"] for e in speed) / len(speed)
    return saved


def colors(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Statuses that have a score, and their colours; WAITING and RUNNING only if a trial waits or runs."""
    present = {r.status for r in records}
    others = [(status, color) for status, color in (("WAITING", WAITS), ("RUNNING", RUNS)) if status in present]
    return [("PRUNED", DIM), *others, ("COMPLETE", GOOD)]


def dots(records: Sequence[Record], color: str, axis: ScoreAxis) -> dict[str, Any]:
    """Markers of trials; a click on one shows its recipe."""
    return {
        "mode": "markers",
        "marker": {"color": color, "size": 8, "symbol": axis.symbols(scores(records))},
        "text": [f"{r.name}: {r.score:.4f}, {len(r.curve)} epoch(s)" for r in records],
        "customdata": [r.name for r in records],
        "hoverinfo": "text",
    }


def scores(records: Sequence[Record]) -> list[float]:
    """Of the records that have one."""
    return [r.score for r in records if r.score is not None]
