"""Colours, frame and axes that all charts share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

GOOD: Final = "#3a9168"
BEST: Final = "#d9822b"
DIM: Final = "#9a9a9a"
WAITS: Final = "#5b8db8"
BAD: Final = "#c25450"
RUNS: Final = "#a05fb5"
SCALE: Final = ((0.0, DIM), (0.5, WAITS), (1.0, BEST))
"""From low to high scores."""
BASELINE_LINE: Final = {"color": BAD, "dash": "dash", "width": 1.5}
"""Colours that can be seen on white and on black."""

_LONGEST: Final = 40
_CUT: Final = 0.5
"""How far below the baseline an axis of scores goes at most."""
_FENCE: Final = 3.0
"""Quartile distances below the lower quartile from which on a score is an outlier (J. Tukey: Exploratory Data
Analysis, 1977: "far out")."""


def framed(figure: go.Figure, height: int) -> go.Figure:
    """The figure with the layout of all pages."""
    figure.update_layout(
        template="simple_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


@dataclass(frozen=True)
class ScoreAxis:
    """An axis of scores (R2) that one diverged trial does not stretch.

    It ends at the lowest score that is not far out, or 0.5 below the baseline. Scores below are drawn at its end as
    triangles with their true value on hover.
    """

    low: float
    high: float

    @classmethod
    def of(cls, scores: Iterable[float], baseline: float) -> ScoreAxis:
        """The axis for some scores and the baseline."""
        known = np.array([score for score in scores if np.isfinite(score)])
        if not len(known):
            return cls(baseline - 0.02, baseline + 0.02)
        quarter, half, three = np.percentile(known, [25, 50, 75])
        fence = quarter - _FENCE * max(three - quarter, 0.01, half - quarter)
        low = min(baseline, float(known[known >= max(fence, baseline - _CUT)].min(initial=baseline)))
        high = max(baseline, float(known.max()))
        margin = 0.05 * (high - low) + 0.01
        return cls(low - margin, high + margin)

    @property
    def ends(self) -> list[float]:
        """As plotly wants them."""
        return [self.low, self.high]

    def below(self, scores: Iterable[float]) -> int:
        """How many scores are below the axis."""
        return sum(not score >= self.low for score in scores)

    def shown(self, scores: Iterable[float]) -> list[float]:
        """The scores, those below the axis at its end."""
        return [score if score >= self.low else self.low for score in scores]

    def symbols(self, scores: Iterable[float]) -> list[str]:
        """Marker of each score: a triangle that points down where it is below the axis."""
        return ["circle" if score >= self.low else "triangle-down" for score in scores]


def baseline_line(figure: go.Figure, baseline: float) -> None:
    """A dashed line at the score of predicting each target's mean."""
    figure.add_hline(y=baseline, line=BASELINE_LINE, opacity=1, annotation_text="each target's mean")


def whole_numbers(count: int) -> dict[str, object]:
    """Ticks of an axis that counts: plotly would put halves on a short one."""
    return {"dtick": 1} if count <= 10 else {}


def bars(
    labels: Sequence[str], values: Sequence[float], form: str, title: str, limit: float | None = None
) -> go.Figure:
    """Horizontal bars with every value written outside of its bar, small and negative ones too.

    Args:
        labels: of the bars, from top to bottom.
        values: their lengths.
        form: format of a value, such as `.2f`.
        title: of the axis.
        limit: a bar ends here at the most, in either direction; its label has the value.
    """
    ends = list(values) if limit is None else [float(np.clip(value, -limit, limit)) for value in values]
    span = max([0.0, *ends]) - min([0.0, *ends]) or 1.0
    figure = go.Figure(go.Bar(x=ends, y=list(labels), orientation="h", marker_color=GOOD, width=0.6))
    text = [format(value, form) for value in values]
    figure.update_traces(text=text, textposition="outside", cliponaxis=False, hoverinfo="text+y")
    figure.update_xaxes(
        title=title, range=[min([0.0, *ends]) - 0.12 * span * (min(ends) < 0), max([0.0, *ends]) + 0.12 * span]
    )
    figure.update_xaxes(zeroline=True, zerolinewidth=1, zerolinecolor=DIM)
    figure.update_yaxes(autorange="reversed", type="category")
    return framed(figure, 110 + 26 * len(labels)).update_layout(margin={"t": 10})


def by_value(labels: Iterable[str]) -> list[str]:
    """Labels of categories in the order of their values: numbers, then lists of numbers by size, then text."""
    return sorted(labels, key=_order)


def _order(label: str) -> tuple[int, Sequence[Any], str]:
    try:
        value = json.loads(label.lower())
    except ValueError:
        return 3, (), label
    if isinstance(value, bool | int | float):
        return 0, (float(value),), label
    if isinstance(value, list) and all(isinstance(v, int | float) for v in value):
        return 1, (len(value), *value), label
    return 2, (), label


def label(content: object) -> str:
    """Text for a chart, escaped because plotly interprets tags, and shortened in its middle."""
    text = str(content)
    return escape(text if len(text) <= _LONGEST else f"{text[:24]}...{text[-13:]}", quote=False)
