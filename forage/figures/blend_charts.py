"""Charts of a blend: its scores, members, targets, predictions and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ensemble.estimate.conformal import calibrate
from ensemble.estimate.evidence import Evidence
from forage.figures.charts import BASELINE_LINE, BEST, DIM, GOOD, WAITS, ScoreAxis, bars, framed, label
from pasture.metric import weighted_r2
from pasture.targets import TARGETS, WEIGHTS, Array

_SCORES: Final = {
    "outer": "whole procedure:<br>dates held out of the search",
    "nested": "blend, nested:<br>on dates held out",
    "fitted": "blend, fitted:<br>on its own images",
    "optimum": "best of all<br>convex weights",
    "best_single": "best single member",
    "uniform": "mean of<br>all candidates",
    "uniform_nested": "mean of all candidates,<br>on dates held out",
}
MOST_MEMBERS: Final = 40
_LEVELS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)
_COLORS: Final = (GOOD, "#a07a45", "#a05fb5", WAITS, BEST)


def scores(estimate: dict[str, Any], outer: tuple[float, tuple[float, float]] | None = None) -> go.Figure:
    """A dot for each score, intervals, and a line at the baseline.

    Args:
        estimate: as in blend.json.
        outer: the outer score and its interval.
    """
    found: dict[str, tuple[float, Sequence[float] | None]] = {
        name: (estimate[name], None) for name in _SCORES if estimate.get(name) is not None
    }
    if "nested" in found:
        found["nested"] = (estimate["nested"], estimate["interval"])
    if outer:
        found = {"outer": outer, **found}
    figure = go.Figure()
    for name, (_, interval) in found.items():
        if interval:
            row, line = [_SCORES[name]] * 2, {"color": BEST, "width": 5}
            figure.add_scatter(x=list(interval), y=row, mode="lines", line=line, opacity=0.5)
    values = [value for value, _ in found.values()]
    figure.add_scatter(
        x=values,
        y=[_SCORES[name] for name in found],
        text=[f"{value:.3f}" for value in values],
        textposition="top center",
        mode="markers+text",
        marker={"size": 12, "color": [BEST if name in ("nested", "outer") else GOOD for name in found]},
        cliponaxis=False,
        hoverinfo="text+y",
    )
    baseline = estimate["baseline"]
    line = {"line": BASELINE_LINE, "opacity": 1, "annotation_text": "each target's mean"}
    figure.add_vline(x=baseline, annotation_position="top", **line)
    ends = ScoreAxis.of([*values, *(end for _, interval in found.values() for end in interval or [])], baseline).ends
    figure.update_xaxes(title="R²", range=ends)
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=[_SCORES[n] for n in found])
    return framed(figure, 90 + 48 * len(found)).update_layout(showlegend=False)


def target_scores(targets: dict[str, dict[str, float | None]], kind: str) -> go.Figure:
    """R2 of each target about its own mean.

    Args:
        targets: as in blend.json.
        kind: `nested_r2` or `r2`.
    """
    names = [name for name in targets if targets[name][kind] is not None]
    values = [targets[name][kind] or 0.0 for name in names]
    return bars([name.removesuffix("_g") for name in names], values, ".3f", "R² of the target alone", limit=1.0)


def predicted_against_true(evidence: Evidence, predictions: Array) -> go.Figure:
    """A panel for each target; a dot for each image, which has its id as `customdata`.

    Args:
        evidence: of the blend.
        predictions: (n, 5) in grams.
    """
    columns = 3
    figure = make_subplots(2, columns, subplot_titles=[t.removesuffix("_g") for t in TARGETS], vertical_spacing=0.2)
    keys = [str(number) for number in range(len(evidence.image_ids))]
    for t in range(len(TARGETS)):
        where = {"row": t // columns + 1, "col": t % columns + 1}
        x, y = evidence.truth[:, t], predictions[:, t]
        text = [
            f"{label(i)}<br>{d}<br>true {a:.1f} g, predicted {b:.1f} g"
            for i, d, a, b in zip(evidence.image_ids, evidence.dates, x, y, strict=True)
        ]
        end = max(x.max(), y.max()) * 1.05
        dots = {"mode": "markers", "marker": {"color": GOOD, "size": 6, "opacity": 0.6}, "text": text}
        figure.add_scatter(x=[0, end], y=[0, end], mode="lines", line={"color": DIM}, hoverinfo="skip", **where)
        figure.add_scatter(x=x, y=y, customdata=keys, hoverinfo="text", **dots, **where)
        figure.update_xaxes(title="true (g)", range=[0, end], **where)
        figure.update_yaxes(title="predicted (g)", range=[min(0.0, float(y.min())), end], **where)
    return framed(figure, 680).update_layout(showlegend=False)


def score_by_members(evidence: Evidence, shares: Array, keys: Sequence[str]) -> go.Figure:
    """Score of the blend as its members join, the heaviest first, their weights scaled to the whole.

    Args:
        evidence: of the blend.
        shares: (m, 5) weights of the members, heaviest first.
        keys: m names.
    """
    alone = np.array([weighted_r2(evidence.truth, member) for member in evidence.members])
    order = np.lexsort((-alone, -(shares @ WEIGHTS).round(9)))  # of equal weights, the better first
    sums = (shares[order, None, :] * evidence.members[order]).cumsum(axis=0)
    total = shares[order].cumsum(axis=0)
    scale = np.divide(shares.sum(axis=0), total, out=np.ones_like(total), where=np.abs(total) > 1e-9)
    together = [weighted_r2(evidence.truth, row * factor) for row, factor in zip(sums, scale, strict=True)]
    names = [label(keys[i]) for i in order]
    x = list(range(1, len(order) + 1))
    figure = go.Figure()
    figure.add_scatter(x=x, y=together, text=names, mode="lines+markers", line={"color": GOOD}, name="blend so far")
    dots = {"mode": "markers", "marker": {"color": DIM, "size": 7}, "name": "member alone"}
    figure.add_scatter(x=x, y=alone[order], text=names, **dots)
    figure.update_xaxes(title="members", **({"dtick": 1} if len(x) <= 15 else {}))
    figure.update_yaxes(title="R² (out of fold)")
    return framed(figure, 340)


def steps(taken: dict[str, Any]) -> go.Figure:
    """Score after every step of the choice of members, and the step at which the blend ends.

    Args:
        taken: `members`, `scores` and `kept` of each step, as in blend.json.
    """
    x, names = list(range(1, len(taken["scores"]) + 1)), [label(name) for name in taken["members"]]
    text = [f"{name}: {score:.4f}" for name, score in zip(names, taken["scores"], strict=True)]
    figure = go.Figure()
    mode = "lines+markers" if len(x) <= MOST_MEMBERS else "lines"
    figure.add_scatter(x=x, y=taken["scores"], text=text, mode=mode, line={"color": GOOD}, hoverinfo="x+text")
    end, score = taken["kept"], taken["scores"][taken["kept"] - 1]
    figure.add_scatter(
        x=[end], y=[score], text=[f"{score:.4f}"], mode="markers+text", marker={"color": BEST, "size": 12}
    )
    figure.data[-1].update(textposition="top center", hoverinfo="x+text", cliponaxis=False)
    figure.add_vline(x=end, line={"color": WAITS, "dash": "dot", "width": 1}, opacity=1)
    span = max(max(taken["scores"]) - min(taken["scores"]), 0.01)
    figure.update_xaxes(title="members added", **({"dtick": 1} if len(x) <= 15 else {}))
    figure.update_yaxes(title="R²", range=[min(taken["scores"]) - 0.1 * span, max(taken["scores"]) + 0.25 * span])
    return framed(figure, 340).update_layout(showlegend=False)


def residual_correlation(evidence: Evidence, keys: Sequence[str]) -> go.Figure:
    """Correlation of the members' residuals, weighted as in the metric; members that differ are worth blending."""
    residuals = (evidence.members[:MOST_MEMBERS] - evidence.truth) * np.sqrt(WEIGHTS)
    flat = residuals.reshape(len(residuals), -1)
    with np.errstate(invalid="ignore"):
        matrix = np.corrcoef(flat).round(3)
    names = [label(key) for key in keys[:MOST_MEMBERS]]
    low = float(np.nanmin(matrix))
    heat = go.Heatmap(z=matrix, x=names, y=names, zmin=min(low, 0.9), zmax=1, colorscale="Viridis", xgap=1, ygap=1)
    figure = go.Figure(heat)
    figure.update_xaxes(type="category", tickangle=-45)
    figure.update_yaxes(type="category", autorange="reversed")
    return framed(figure, 200 + 18 * len(names))


def worth_of_tta(worth: dict[str, float]) -> go.Figure:
    """OOF score of the blend with 1, 2, 4 and 8 elements of D4."""
    values = list(worth.values())
    text = [f"{value:.4f}" for value in values]
    figure = go.Figure()
    figure.add_scatter(x=list(worth), y=values, text=text, mode="lines+markers+text", textposition="top center")
    figure.update_traces(marker={"size": 10, "color": GOOD}, line={"color": GOOD}, cliponaxis=False)
    figure.update_xaxes(title="elements of D4 averaged", type="category")
    span = max(max(values) - min(values), 0.01)
    figure.update_yaxes(title="R² (out of fold)", range=[min(values) - 0.3 * span, max(values) + 0.4 * span])
    return framed(figure, 300)


def calibration(evidence: Evidence) -> go.Figure | None:
    """Share of photographs inside their interval against the level of the interval, for each target.

    The intervals of each date are made from the other dates. None where there are too few dates.
    """
    day = np.unique(evidence.dates, return_inverse=True)[1]
    figure = go.Figure()
    found: list[tuple[float, Array]] = []
    for level in _LEVELS:
        inside = np.zeros(len(TARGETS))
        for held_out in np.unique(day):
            own = day == held_out
            conformal = calibrate(evidence.truth[~own], evidence.unseen[:, ~own], day[~own], level)
            if conformal is None:
                break
            for unseen in evidence.unseen[:, own]:
                low, high = conformal.bounds(unseen)
                inside += ((evidence.truth[own] >= low) & (evidence.truth[own] <= high)).sum(axis=0)
        else:
            found.append((level, inside / (len(day) * len(evidence.unseen))))
    if len(found) < 2 or not len(evidence.unseen):
        return None
    levels = [level for level, _ in found]
    figure.add_scatter(x=levels, y=levels, mode="lines", line={"color": DIM, "dash": "dash"}, name="as promised")
    for t, target in enumerate(TARGETS):
        figure.add_scatter(x=levels, y=[share[t] for _, share in found], name=target.removesuffix("_g"))
        figure.data[-1].update(mode="lines+markers", line={"color": _COLORS[t]})
    figure.update_xaxes(title="level of the interval", tickformat=".0%")
    figure.update_yaxes(title="photographs inside", tickformat=".0%", range=[0, 1.03])
    return framed(figure, 360)
