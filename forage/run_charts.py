"""The charts of a run's report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from forage.charts import BEST, DIM, GOOD, WAITS, baseline_line, framed, label, score_range, whole_numbers
from pasture.targets import TARGETS
from tune.records.ledger import Record

SCORE = "R² (out of fold)"
COLUMNS = 3
MOST_PARAMETERS = 12
_LOG_SPAN = 20.0


def score_by_trial(records: Sequence[Record], baseline: float) -> go.Figure:
    """Score of every trial in the order of proposal, and the best so far of those complete."""
    figure = go.Figure()
    for status, color in _colors(records):
        chosen = [r for r in records if r.status == status]
        figure.add_scatter(x=_numbers(chosen), y=_scores(chosen), text=_hover(chosen), **_dots(status, color))
    complete = [r for r in records if r.status == "COMPLETE"]
    best = list(itertools.accumulate(_scores(complete), max))
    line = {"color": BEST, "shape": "hv"}
    figure.add_scatter(x=_numbers(complete), y=best, mode="lines", line=line, name="best so far", hoverinfo="skip")
    baseline_line(figure, baseline)
    figure.update_xaxes(title="trial, in order", **whole_numbers(len(records)))
    figure.update_yaxes(title=SCORE, range=score_range(_scores(records), baseline))
    return framed(figure, 360)


def learning_curves(records: Sequence[Record], best: Record | None, baseline: float) -> go.Figure:
    """Score of each epoch of every trial."""
    figure = go.Figure()
    others = [r for r in records if r is not best]
    for name, color, width, chosen in (
        *((status.lower(), color, 1, [r for r in others if r.status == status]) for status, color in _colors(records)),
        (f"best ({best.name})" if best else "best", BEST, 3, [best] if best else []),
    ):
        # One trace for all curves of a kind, with gaps between them: thousands of traces would be slow.
        points = [p for r in chosen for p in (*((e["epoch"], e["epoch_score"], r.name) for e in r.curve), (None,) * 3)]
        x, y, names = zip(*points, strict=True) if points else ((), (), ())
        line = {"color": color, "width": width}
        figure.add_scatter(x=x, y=y, text=names, mode="lines+markers", marker={"size": 3}, line=line, name=name)
    baseline_line(figure, baseline)
    figure.update_xaxes(title="epoch", **whole_numbers(max(len(r.curve) for r in records)))
    figure.update_yaxes(title=SCORE, range=score_range([e["epoch_score"] for r in records for e in r.curve], baseline))
    return framed(figure, 360)


def searched(records: Sequence[Record]) -> list[str]:
    """Parameters that took more than one value."""
    names = dict.fromkeys(name for r in records for name in r.params)
    return [n for n in names if len({str(r.params[n]) for r in records if n in r.params}) > 1]


def parameters(records: Sequence[Record], names: Sequence[str], baseline: float) -> go.Figure:
    """Score against each searched parameter, one panel each."""
    names = names[:MOST_PARAMETERS]
    rows = math.ceil(len(names) / COLUMNS)
    titles = [label(name) for name in names]
    figure = make_subplots(rows, COLUMNS, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.45 / rows)
    for i, name in enumerate(names):
        where = {"row": i // COLUMNS + 1, "col": i % COLUMNS + 1}
        values = [r.params[name] for r in records if name in r.params]
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if not numeric:
            order = sorted({label(v) for v in values})
            figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, **where)
        elif min(values) > 0 and max(values) / min(values) > _LOG_SPAN:
            figure.update_xaxes(type="log", dtick=1, exponentformat="power", **where)
        for status, color in _colors(records):
            chosen = [r for r in records if name in r.params and r.status == status]
            x = [r.params[name] if numeric else label(r.params[name]) for r in chosen]
            dots = _dots(status, color) | {"showlegend": i == 0, "legendgroup": status}
            figure.add_scatter(x=x, y=_scores(chosen), text=_hover(chosen), **dots, **where)
    figure.update_yaxes(range=score_range(_scores(records), baseline))
    figure.update_yaxes(title=SCORE, col=1)
    framed(figure, 90 + 230 * rows)
    # The titles of the first row stand where the legend would.
    return figure.update_layout(legend={"y": 1 + 30 / (230 * rows)}, margin={"t": 70})


def target_scores(best: Record) -> go.Figure:
    """R2 of each target of the best trial, at the epoch that counts; a bar ends at -1, its label has the value."""
    report = best.curve[int(best.curve[-1]["best_epoch"]) - 1]
    values = [report[f"r2_{target}"] for target in TARGETS]
    text = [f"{value:.2f}" for value in values]
    ends = [max(value, -1.0) for value in values]
    looks = {"orientation": "h", "marker_color": GOOD, "width": 0.6, "hoverinfo": "text+y"}
    figure = go.Figure(go.Bar(x=ends, y=TARGETS, text=text, **looks))
    figure.update_xaxes(title=SCORE, range=[min(0.0, *ends), 1])
    figure.update_yaxes(autorange="reversed")
    return framed(figure, 260).update_layout(margin={"l": 110})


def _colors(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Statuses that have a score, and their colours; WAITING only if a trial waits."""
    waiting = [("WAITING", WAITS)] if any(r.status == "WAITING" for r in records) else []
    return [("PRUNED", DIM), *waiting, ("COMPLETE", GOOD)]


def _dots(status: str, color: str) -> dict[str, Any]:
    return {"mode": "markers", "name": status.lower(), "marker": {"color": color, "size": 8}, "hoverinfo": "text+y"}


def _numbers(records: Sequence[Record]) -> list[int]:
    return [r.number for r in records]


def _scores(records: Sequence[Record]) -> list[float]:
    return [r.score for r in records if r.score is not None]


def _hover(records: Sequence[Record]) -> list[str]:
    return [f"{r.name}, {len(r.curve)} epochs" for r in records]
