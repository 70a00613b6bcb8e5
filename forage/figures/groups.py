"""Where the errors are: scores of predictions by state, month, species, date and fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import plotly.graph_objects as go

from forage.figures.charts import DIM, GOOD, framed, label
from pasture.metric import residual_ss, total_ss
from pasture.targets import TOTAL, WEIGHTS, Array

COLUMNS: Final = (
    "by", "group", "images", "share of images", "share of the error", "R²", "RMSE Total (g)", "bias Total (g)"
)  # fmt: skip


def rows(truth: Array, predictions: Array, groups: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Cells of a table, one row a group.

    R2 of a group is about the weighted mean of all images: 1 - (its residuals) / (its share of all sums of squares
    about that mean); `-` where all its truth equals that mean.

    Args:
        truth: (n, 5) in grams.
        predictions: (n, 5) in grams.
        groups: name of the grouping to n labels.
    """
    result = []
    every = residual_ss(truth, predictions)
    mean = (truth * WEIGHTS).sum() / (WEIGHTS.sum() * len(truth))
    for by, labels in groups.items():
        names = np.asarray(labels)
        for name in sorted(set(labels)):
            own = names == name
            loss, about = residual_ss(truth[own], predictions[own]), float((WEIGHTS * (truth[own] - mean) ** 2).sum())
            error = (predictions - truth)[own, TOTAL]
            result.append(
                [
                    by,
                    name,
                    str(own.sum()),
                    f"{own.mean():.0%}",
                    f"{loss / every:.0%}" if every else "-",
                    f"{1 - loss / about:.3f}" if about else "-",
                    f"{np.sqrt((error**2).mean()):.1f}",
                    f"{error.mean():+.1f}",
                ]
            )
    return result


def shares(truth: Array, predictions: Array, labels: Sequence[str]) -> go.Figure:
    """Share of the weighted squared error of each group beside its share of the images. Arguments as of `rows`."""
    names, number = np.unique(np.asarray(labels), return_inverse=True)
    losses = np.bincount(number, weights=(truth - predictions) ** 2 @ WEIGHTS)
    images = np.bincount(number)
    lost = losses / (total_ss(truth) or 1.0)
    text = [
        f"{label(name)}: {n} image(s), {loss / (losses.sum() or 1.0):.0%} of the error, costs {cost:.3f} of R²"
        for name, n, loss, cost in zip(names, images, losses, lost, strict=True)
    ]
    figure = go.Figure()
    x = [label(name) for name in names]
    figure.add_bar(x=x, y=losses / (losses.sum() or 1.0), marker_color=GOOD, name="share of the error")
    figure.add_bar(x=x, y=images / images.sum(), marker_color=DIM, name="share of the images")
    figure.update_traces(text=text, hoverinfo="text", textposition="none")
    figure.update_yaxes(tickformat=".0%")
    figure.update_xaxes(type="category", tickangle=-45 if len(names) > 6 else 0)
    return framed(figure, 340)


def of_dates(dates: Sequence[str]) -> dict[str, list[str]]:
    """The groupings that dates give: month (1 to 12, over all years) and date."""
    return {"month": [str(date)[5:7] for date in dates], "date": [str(date) for date in dates]}
