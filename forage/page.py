"""A report page: one HTML file that needs no internet. Every text is escaped; only plotly's own output is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .2rem; }
p { margin: .2rem 0 .6rem; color: #555; max-width: 75ch; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.card { border: 1px solid #ddd; border-radius: 6px; padding: .5rem 1rem; }
.card b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; } .card span { color: #555; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e5e5e5; vertical-align: top; }
th { color: #555; font-weight: 600; } .note { color: #8a4b00; }
"""


class Page:
    """A page that is written from top to bottom."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts = [f"<h1>{escape(title)}</h1>"]

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def note(self, text: str) -> None:
        """A paragraph that should not be overlooked."""
        self.parts.append(f'<p class="note">{escape(text)}</p>')

    def cards(self, cards: Iterable[tuple[str, str]]) -> None:
        """Numbers and what they are."""
        inner = (
            f'<div class="card"><b>{escape(number)}</b><span>{escape(what)}</span></div>' for number, what in cards
        )
        self.parts.append(f'<div class="cards">{"".join(inner)}</div>')

    def figure(self, heading: str, caption: str, figure: go.Figure) -> None:
        """A chart under a heading and a sentence that says how to read it."""
        self._head(heading, caption)
        self.parts.append(
            figure.to_html(
                full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
            )
        )

    def table(self, heading: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table under a heading."""
        self._head(heading, caption)
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        self.parts.append(f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>')

    def html(self) -> str:
        """The whole page; plotly's script is in it once."""
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>{''.join(self.parts)}</body></html>"
        )

    def _head(self, heading: str, caption: str) -> None:
        self.parts.append(f"<h2>{escape(heading)}</h2><p>{escape(caption)}</p>")
