"""The charts of a blend's report."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ensemble.blend.blend import Blend, Evidence
from forage.charts import BASELINE_LINE, BEST, DIM, GOOD, framed, label, score_range
from pasture.targets import TARGETS

_SCORES = {
    "nested": "nested: on dates it was not fitted to",
    "fitted": "fitted: on the images it was fitted to",
    "optimum": "best of all convex weights",
    "best_single": "best single member",
    "uniform": "mean of all candidates",
}


def scores(blend: Blend) -> go.Figure:
    """A dot for each score, the interval of the nested score, and a line at the baseline."""
    estimate = blend.estimate
    names = [name for name in _SCORES if estimate[name] is not None]
    values = [estimate[name] for name in names]
    figure = go.Figure()
    if estimate["interval"]:
        low, high = estimate["interval"]
        row = [_SCORES["nested"]] * 2
        figure.add_scatter(x=[low, high], y=row, mode="lines", line={"color": BEST, "width": 5}, opacity=0.4)
    figure.add_scatter(
        x=values,
        y=[_SCORES[name] for name in names],
        text=[f"{value:.3f}" for value in values],
        textposition="top center",
        mode="markers+text",
        marker={"size": 12, "color": [BEST if name == "nested" else GOOD for name in names]},
        cliponaxis=False,
    )
    baseline = estimate["baseline"]
    ends = score_range([*values, *(estimate["interval"] or [])], baseline)
    line = {"line": BASELINE_LINE, "opacity": 1, "annotation_text": "each target's mean"}
    figure.add_vline(x=baseline, annotation_position="top", **line)
    figure.update_xaxes(title="R²", range=ends)
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=[_SCORES[n] for n in names])
    return framed(figure, 330).update_layout(showlegend=False, margin={"l": 270})


def predicted_against_true(evidence: Evidence, elements: tuple[int, ...]) -> go.Figure:
    """A panel for each target; a dot for each image, predicted as the mean over some elements of D4."""
    predictions = evidence.blended(elements)
    columns = 3
    figure = make_subplots(2, columns, subplot_titles=[t.removesuffix("_g") for t in TARGETS], vertical_spacing=0.2)
    text = [label(f"{i}, {d}") for i, d in zip(evidence.image_ids, evidence.dates, strict=True)]
    for t in range(len(TARGETS)):
        where = {"row": t // columns + 1, "col": t % columns + 1}
        x, y = evidence.truth[:, t], predictions[:, t]
        end = max(x.max(), y.max()) * 1.05
        dots = {"mode": "markers", "marker": {"color": GOOD, "size": 6, "opacity": 0.6}, "text": text}
        figure.add_scatter(x=[0, end], y=[0, end], mode="lines", line={"color": DIM}, hoverinfo="skip", **where)
        figure.add_scatter(x=x, y=y, **dots, **where)
        figure.update_xaxes(title="true (g)", range=[0, end], **where)
        figure.update_yaxes(title="predicted (g)", range=[0, end], **where)
    return framed(figure, 680).update_layout(showlegend=False)


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
