"""Charts of the searched recipe fields: score against each, importance, parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from forage.figures.charts import BEST, GOOD, SCALE, ScoreAxis, by_value, framed, label
from forage.figures.trial_charts import SCORE, colors, dots, scores
from tune.records.ledger import Record

COLUMNS: Final = 3
MOST_FIELDS: Final = 12
_LOG_SPAN: Final = 20.0


def searched(records: Sequence[Record]) -> list[str]:
    """Fields that took more than one value."""
    names = dict.fromkeys(name for r in records for name in r.params)
    return [n for n in names if len({str(r.params[n]) for r in records if n in r.params}) > 1]


def slices(records: Sequence[Record], names: Sequence[str], baseline: float, logarithmic: Sequence[str]) -> go.Figure:
    """Score against each searched field, one panel each.

    Args:
        records: with a score.
        names: of fields; the first 12 are shown.
        baseline: score of predicting each target's mean.
        logarithmic: fields that the space draws on a logarithmic scale.
    """
    names = names[:MOST_FIELDS]
    rows = math.ceil(len(names) / COLUMNS)
    titles = [label(name) for name in names]
    figure = make_subplots(rows, COLUMNS, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.45 / rows)
    axis = ScoreAxis.of(scores(records), baseline)
    for i, name in enumerate(names):
        where = {"row": i // COLUMNS + 1, "col": i % COLUMNS + 1}
        values = [r.params[name] for r in records if name in r.params]
        numeric = _numeric(values)
        if not numeric:
            order = by_value({label(v) for v in values})
            figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, **where)
        elif min(values) > 0 and (name in logarithmic or max(values) / min(values) > _LOG_SPAN):
            ticks = np.geomspace(min(values), max(values), 3)
            figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:.1e}" for tick in ticks], **where)
        for status, color in colors(records):
            chosen = [r for r in records if name in r.params and r.status == status]
            x = [r.params[name] if numeric else label(r.params[name]) for r in chosen]
            looks = {"name": status.lower(), "legendgroup": status, "showlegend": i == 0}
            figure.add_scatter(x=x, y=axis.shown(scores(chosen)), **dots(chosen, color, axis), **looks, **where)
        figure.update_yaxes(range=axis.ends, **where)
    figure.update_yaxes(title=SCORE, col=1)
    framed(figure, 90 + 240 * rows)
    # The titles of the first row stand where the legend would.
    return figure.update_layout(legend={"y": 1 + 30 / (230 * rows)}, margin={"t": 70})


def importances(found: dict[str, dict[str, float]]) -> go.Figure:
    """Importance of each field by each evaluator, the most important first.

    Args:
        found: name of the evaluator to field to share.
    """
    first = next(iter(found.values()))
    names = sorted(first, key=lambda name: -first[name])
    figure = go.Figure()
    for (evaluator, values), color in zip(found.items(), (GOOD, BEST), strict=False):
        shares = [values.get(name, 0.0) for name in names]
        text = [f"{share:.2f}" for share in shares]
        figure.add_bar(y=[label(n) for n in names], x=shares, text=text, orientation="h", name=evaluator)
        figure.data[-1].update(marker_color=color, textposition="outside", cliponaxis=False, hoverinfo="text+y+name")
    figure.update_xaxes(title="share of the importance", range=[0, 1.1 * max(max(v.values()) for v in found.values())])
    figure.update_yaxes(autorange="reversed", type="category")
    return framed(figure, 130 + 40 * len(names))


def parallel_coordinates(records: Sequence[Record], names: Sequence[str], logarithmic: Sequence[str]) -> go.Figure:
    """One line a trial through its value of every field, coloured by score; dragging along an axis selects trials.

    Fields that not all of these trials have are drawn with a gap value, `-`. Arguments as of `slices`.
    """
    values = scores(records)
    shown = ScoreAxis.of(values, float(np.median(values))).shown(values)
    varied = set(searched(records))
    fields = [name for name in names if name in varied][:MOST_FIELDS]
    dimensions = [_dimension(records, name, name in logarithmic) for name in fields]
    line = {"color": shown, "colorscale": SCALE, "cmin": min(shown), "cmax": max(shown), "showscale": True}
    figure = go.Figure(
        go.Parcoords(line=line, dimensions=[*dimensions, {"label": "R²", "values": shown}], labelangle=-20)
    )
    return framed(figure, 460).update_layout(margin={"t": 110, "l": 130, "r": 40, "b": 30})


def _dimension(records: Sequence[Record], name: str, logarithmic: bool) -> dict[str, Any]:
    known = [r.params[name] for r in records if name in r.params]
    whole = len(known) == len(records)
    if _numeric(known) and whole:
        numbers = np.array(known, dtype=float)
        if logarithmic and numbers.min() > 0:
            low, high = np.log10(numbers.min()), np.log10(numbers.max())
            ticks = np.linspace(low, high, 5)
            text = [f"{10**tick:.1e}" for tick in ticks]
            return {"label": label(name), "values": np.log10(numbers), "tickvals": ticks, "ticktext": text}
        return {"label": label(name), "values": numbers}
    order = (["-"] if not whole else []) + (_bins(known) if _numeric(known) else by_value({label(v) for v in known}))
    position = {text: i for i, text in enumerate(order)}
    if _numeric(known):
        edges = np.array([float(text) for text in order if text != "-"])
        spots = [_nearest(r.params.get(name), edges, int(not whole)) for r in records]
    else:
        spots = [position[label(r.params[name])] if name in r.params else 0 for r in records]
    return {"label": label(name), "values": spots, "tickvals": list(range(len(order))), "ticktext": order}


def _bins(values: Sequence[float]) -> list[str]:
    """At most five numbers that stand for the values of a field that only some trials have."""
    return list(dict.fromkeys(f"{q:.3g}" for q in np.quantile(np.array(values, dtype=float), [0, 0.25, 0.5, 0.75, 1])))


def _nearest(value: float | None, edges: np.ndarray, first: int) -> int:
    return 0 if value is None else first + int(np.abs(edges - float(value)).argmin())


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
