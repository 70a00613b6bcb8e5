"""Charts of a data folder: targets, balance, correlations, folds, photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from forage.figures.charts import BEST, DIM, GOOD, WAITS, bars, framed, label
from pasture.targets import TARGETS, WEIGHTS, Array

_COLORS = (GOOD, BEST, WAITS, DIM, "#a05fb5", "#c25450")


def histograms(targets: Array) -> go.Figure:
    """Distribution of each target of (n, 5) in grams; zeros are said in the title of each panel."""
    titles = [
        f"{name.removesuffix('_g')}, {share:.0%} zeros"
        for name, share in zip(TARGETS, (targets == 0).mean(axis=0), strict=True)
    ]
    figure = make_subplots(2, 3, subplot_titles=titles, vertical_spacing=0.22)
    for t in range(len(TARGETS)):
        where = {"row": t // 3 + 1, "col": t % 3 + 1}
        figure.add_histogram(x=targets[:, t], nbinsx=25, marker_color=GOOD, **where)
        figure.update_xaxes(title="g", **where)
    figure.update_yaxes(title="images", col=1)
    return framed(figure, 520).update_layout(showlegend=False, bargap=0.05)


def counts(labels: Sequence[str]) -> go.Figure:
    """Images of each state or species, the most frequent first."""
    names, count = np.unique(np.asarray(labels, dtype=str), return_counts=True)
    order = np.argsort(-count, kind="stable")
    return bars([label(names[i]) for i in order], [float(count[i]) for i in order], ".0f", "images")


def correlations(table: pd.DataFrame) -> go.Figure:
    """Rank correlation (Spearman) of every column of numbers with every other."""
    matrix = table.corr(method="spearman").round(2)
    names = [label(str(name).removesuffix("_g")) for name in matrix.columns]
    heat = go.Heatmap(
        z=matrix, x=names, y=names, zmin=-1, zmax=1, colorscale="RdBu", texttemplate="%{z}", xgap=1, ygap=1
    )
    figure = go.Figure(heat)
    figure.update_xaxes(tickangle=-45)
    figure.update_yaxes(autorange="reversed")
    return framed(figure, 200 + 30 * len(names))


def boxes(values: Array, labels: Sequence[str], title: str) -> go.Figure:
    """Distribution of a weight in each group, groups in the order of their names."""
    figure = go.Figure()
    for name in sorted(set(labels)):
        own = values[np.asarray(labels) == name]
        figure.add_box(y=own, name=label(name), marker_color=GOOD, boxpoints="outliers")
    figure.update_yaxes(title=title)
    return framed(figure, 340).update_layout(showlegend=False)


def brightness_and_sharpness(
    brightness: Sequence[float], sharpness: Sequence[float], groups: Sequence[str], text: Sequence[str]
) -> go.Figure:
    """A dot for each photograph, coloured by group; its position is the key of the photograph shown on hover."""
    figure = go.Figure()
    names = sorted(set(groups))
    for i, name in enumerate(names):
        own = [k for k, group in enumerate(groups) if group == name]
        figure.add_scatter(
            x=[brightness[k] for k in own],
            y=[sharpness[k] for k in own],
            text=[label(text[k]) for k in own],
            customdata=[str(k) for k in own],
            name=label(name),
            mode="markers",
            hoverinfo="text",
            marker={"color": _COLORS[i % len(_COLORS)], "size": 7, "opacity": 0.7},
        )
    figure.update_xaxes(title="brightness (mean luma, 0 to 255)")
    figure.update_yaxes(title="sharpness (variance of the Laplacian)", type="log")
    return framed(figure, 420)


def date_shares(targets: Array, dates: Sequence[str]) -> go.Figure:
    """Share of each date in the images and in the sum of squares that the score is measured against."""
    names, number = np.unique(np.asarray(dates, dtype=str), return_inverse=True)
    mean = (targets * WEIGHTS).sum() / (WEIGHTS.sum() * len(targets))
    squares = np.bincount(number, weights=(targets - mean) ** 2 @ WEIGHTS)
    figure = go.Figure()
    figure.add_bar(x=names, y=squares / squares.sum(), name="share of the sum of squares", marker_color=GOOD)
    figure.add_bar(x=names, y=np.bincount(number) / len(number), name="share of the images", marker_color=DIM)
    figure.update_yaxes(tickformat=".0%")
    figure.update_xaxes(type="category", tickangle=-45)
    return framed(figure, 340)
