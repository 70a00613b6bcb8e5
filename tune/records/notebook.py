"""A table in the output of a notebook cell that is updated in place. Needs IPython only, not ipywidgets."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

_WIDTH = 110
_FORMAT = '<pre style="line-height: 1.2; font-family: monospace">{code}</pre>'


class Cell:
    """Shows one renderable in the output of the running cell; has the methods of `rich.live.Live` that forage uses."""

    def __init__(self) -> None:
        self.handle: Any = None

    def start(self) -> None:
        """Does nothing: the first update shows the table."""

    def update(self, shown: RenderableType, *, refresh: bool = True) -> None:
        """Replace what is shown."""
        from IPython.display import HTML, display

        html = HTML(_html(shown))
        if self.handle is None:
            self.handle = display(html, display_id=True)
        else:
            self.handle.update(html)

    def stop(self) -> None:
        """Does nothing: the table stays in the output."""


def _html(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False)
    console.print(shown)
    return console.export_html(inline_styles=True, code_format=_FORMAT)
