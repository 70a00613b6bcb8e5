"""What the command line says: lines for a person on standard error, JSON alone on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

messages = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line for a person, on standard error."""
    messages.print(text, markup=False)


def warn(text: str) -> None:
    """A warning for a person."""
    messages.print(f"warning: {text}", markup=False)


def print_json(content: Any) -> None:
    """The one thing that goes to standard output."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")
