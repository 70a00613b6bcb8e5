"""A page: one HTML file that needs no internet. Every text is escaped; scripts read figures and facts as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

_HERE: Final = Path(__file__).parent


class Page:
    """A page that is written from top to bottom.

    Attributes:
        figures: name of each figure to the figure, in order.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = []
        self.figures: dict[str, go.Figure] = {}
        self.headings: list[tuple[str, str]] = []

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def note(self, text: str) -> None:
        """A paragraph that should not be overlooked."""
        self.parts.append(f'<p class="note">{escape(text)}</p>')

    def heading(self, heading: str, caption: str) -> None:
        """A heading, unlike all others of the page, and a sentence that says how to read what follows."""
        anchor = _slug(heading)
        self.headings.append((anchor, heading))
        self.parts.append(f'<h2 id="{anchor}">{escape(heading)}</h2><p>{escape(caption)}</p>')

    def cards(self, cards: Iterable[tuple[str, str]]) -> None:
        """Numbers and what they are."""
        inner = (
            f'<div class="card"><b>{escape(number)}</b><span>{escape(what)}</span></div>' for number, what in cards
        )
        self.parts.append(f'<div class="cards">{"".join(inner)}</div>')

    def figure(self, heading: str, caption: str, figure: go.Figure, min_width: int = 0) -> None:
        """A chart under a heading. It scrolls sideways where the screen has fewer pixels than `min_width`.

        In `customdata`, a point may have the name of a trial, which a click shows, or the key of a photograph.
        """
        self.heading(heading, caption)
        name = _slug(heading)
        number = len(self.figures)
        self.figures[name] = figure
        self.data(f"figure-{number}", json.loads(figure.to_json()))
        height = figure.layout.height or 400
        plot = (
            f'<div class="plot" role="img" aria-label="{escape(heading)}" data-figure="figure-{number}" '
            f'data-name="{name}" style="height:{height}px;min-width:{min_width}px"></div>'
        )
        self.parts.append(f'<div class="wide" style="max-height:none">{plot}</div>' if min_width else plot)

    def table(
        self,
        heading: str,
        caption: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        trials: bool = False,
    ) -> None:
        """A table under a heading. A click on a column's name sorts it.

        Args:
            heading: above the table.
            caption: how to read it.
            columns: their names.
            rows: of cells, as text.
            trials: whether the first cells are names of trials, which a click shows.
        """
        self.heading(heading, caption)
        head = "".join(f'<th scope="col"><button type="button">{escape(column)}</button></th>' for column in columns)
        body = "".join(
            f"<tr>{''.join(_cell(cell, trials and i == 0) for i, cell in enumerate(row))}</tr>" for row in rows
        )
        self.parts.append(
            f'<div class="wide" tabindex="0" role="region" aria-label="{escape(heading)}"><table><thead><tr>{head}</tr>'
            f"</thead><tbody>{body}</tbody></table></div>"
        )

    def photographs(
        self, heading: str, caption: str, pictures: Iterable[tuple[str, str]], *, large: bool = False
    ) -> None:
        """Photographs, as data URIs, each above its lines of text; large ones one below the other."""
        self.heading(heading, caption)
        inner = "".join(
            f'<figure><img src="{escape(uri)}" alt="" loading="lazy"><figcaption>{escape(text)}</figcaption></figure>'
            for uri, text in pictures
        )
        kind = "pictures large" if large else "pictures"
        self.parts.append(
            f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(heading)}">{inner}</div>'
        )

    def hover_photographs(self, pictures: Mapping[str, str]) -> None:
        """Photographs that appear when the mouse is over a point of a chart: key to data URI."""
        self.data("pictures", dict(pictures))
        self.parts.append('<div id="photo" hidden><img alt=""></div>')

    def trial_panel(self, trials: Mapping[str, Mapping[str, str]], first: str) -> None:
        """The recipe of a trial to copy, and how it differs from another one.

        Args:
            trials: name to `facts`, `command` and `yaml`.
            first: the trial that is shown at first.
        """
        self.headings.append(("trial", "A trial's recipe"))
        options = "".join(f"<option>{escape(name)}</option>" for name in trials)
        chosen = options.replace(f"<option>{escape(first)}<", f"<option selected>{escape(first)}<")
        self.parts.append(
            '<h2 id="trial">A trial\'s recipe</h2><p>Choose a trial here, or click on one in a chart or a table.</p>'
            f'<div class="trial"><label>trial <select id="one">{chosen}</select></label>'
            f'<label>compared with <select id="other"><option value="">no other</option>{options}</select></label>'
            "</div>"
            '<p id="facts"></p><div class="wide" tabindex="0" role="region" aria-label="Differences">'
            '<table><tbody id="differences"></tbody></table></div>'
            "<p>Save the recipe to a file; this command trains it. "
            '<button type="button" data-copy="command">copy</button></p><pre id="command" tabindex="0"></pre>'
            '<p>Recipe <button type="button" data-copy="yaml">copy</button></p>'
            '<pre id="yaml" tabindex="0"></pre>'
        )
        self.data("trials", {name: dict(facts) for name, facts in trials.items()})

    def data(self, name: str, content: Any) -> None:
        """Facts for the page's script."""
        text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
        self.parts.append(f'<script type="application/json" id="data-{name}">{text}</script>')

    def html(self) -> str:
        """The whole page; plotly's script is in it once."""
        links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading in self.headings)
        plotly = f"<script>{get_plotlyjs()}</script>" if self.figures else ""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{(_HERE / 'page.css').read_text()}</style></head>"
            f'<body><h1>{escape(self.title)}</h1><nav aria-label="Contents">{links}</nav>{"".join(self.parts)}'
            f"{plotly}<script>{(_HERE / 'page.js').read_text()}</script></body></html>"
        )


def _cell(text: str, trial: bool) -> str:
    if trial:
        return f'<td><button type="button" data-trial="{escape(text)}">{escape(text)}</button></td>'
    return f'<td class="text">{escape(text)}</td>' if len(text) > 60 else f"<td>{escape(text)}</td>"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
