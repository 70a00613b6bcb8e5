"""Colours, frame and axes of the charts of both report pages."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

import plotly.graph_objects as go

GOOD: Final = "#2a6f4e"
BEST: Final = "#d9822b"
DIM: Final = "#b5b5b5"
WAITS: Final = "#5b8db8"
BASELINE_LINE: Final = {"color": "#a33b3b", "dash": "dash", "width": 1.5}

_LONGEST: Final = 40

_CUT: Final = 0.5
"""How far below the baseline an axis of scores goes. A diverged trial would squeeze all others into a line."""


def framed(figure: go.Figure, height: int) -> go.Figure:
    """The figure with the layout of all reports."""
    figure.update_layout(
        template="simple_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    return figure


def score_range(scores: Iterable[float], baseline: float) -> list[float]:
    """Ends of an axis of scores (R2)."""
    known = [baseline, *scores]
    low, high = max(min(known), baseline - _CUT), max(known)
    margin = 0.05 * (high - low) + 0.01
    return [low - margin, high + margin]


def baseline_line(figure: go.Figure, baseline: float) -> None:
    """A dashed line at the score of predicting each target's mean."""
    figure.add_hline(y=baseline, line=BASELINE_LINE, opacity=1, annotation_text="each target's mean")


def whole_numbers(count: int) -> dict[str, object]:
    """Ticks of an axis that counts: plotly would put halves on a short one."""
    return {"dtick": 1} if count <= 10 else {}


def label(content: object) -> str:
    """Text for a chart, escaped because plotly interprets tags, and shortened in its middle."""
    text = str(content)
    return escape(text if len(text) <= _LONGEST else f"{text[:24]}...{text[-13:]}", quote=False)
