"""What the command line prints: results on standard output; progress, messages and errors on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

# Neither markup, nor emoji, nor highlighting: a path may hold `[bold]`, `:cat:` or `:1234`.
messages = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
# A pipe or a file has no width, and rich would cut tables to 80 columns there.
_results = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 120)


def say(text: str) -> None:
    """Print a message: one line on standard error."""
    messages.print(text)


def warn(text: str) -> None:
    """Print a warning."""
    messages.print(f"warning: {text}")


def show(text: str) -> None:
    """Print a line of the result on standard output."""
    _results.print(text, soft_wrap=True)


def show_table(table: RenderableType) -> None:
    """Print a table of the result on standard output."""
    _results.print(table)


def print_json(content: Any) -> None:
    """Print the result as JSON on standard output."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")
