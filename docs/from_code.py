"""Pages that are made from the code when the site is built: commands, fields of recipes, presets.

A page has a comment `<!-- from_code: NAME -->` where the generated text goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import typer
from sphinx.application import Sphinx

from forage.cli import app
from forage.recipes.fields import recipe_fields
from search_spaces.catalogue import describe_recipe, recipe_names
from trainables.recipe.recipe import Recipe

MARK = re.compile(r"<!-- from_code: (\w+) -->")


def commands() -> str:
    """Every command with its arguments and options, in the groups of its help page."""
    group = typer.main.get_command(app)
    return "\n".join(line for name, command in _every(group) for line in _command(name, command))


def fields() -> str:
    """Every field of a recipe, a table for each section."""
    lines: list[str] = []
    section = ""
    for field in recipe_fields(Recipe):
        above = field.field.split(".")[0].removesuffix("[]") if "." in field.field else "recipe"
        if above != section:
            section = above
            lines += ["", f"## {section}", "", _row("field", "values", "default", "meaning"), "|---|---|---|---|"]
        default = json.dumps(field.default, default=str)  # as YAML reads it
        lines.append(_row(f"`{field.field}`", f"`{field.values}`", f"`{default}`", field.meaning))
    return "\n".join(lines)


def presets() -> str:
    """The shipped recipes, a line each."""
    lines = [_row("recipe", "what it is"), "|---|---|"]
    for name in recipe_names():
        lines.append(_row(f"`{name}`", describe_recipe(name)))
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {"commands": commands, "fields": fields, "presets": presets}


def _every(group: Any, above: str = "forage") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with all words before its arguments."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _every(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


def _command(name: str, command: Any) -> Iterator[str]:
    """A command as Markdown; its options in the words of its help page."""
    with typer.Context(command, info_name=name) as context:
        yield from ("", f"## {name}", "", " ".join((command.help or "").split()), "")
        yield from ("```text", " ".join([name, *command.collect_usage_pieces(context)]), "```", "")
        yield from (command.epilog or "", "")
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in command.params:
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            title = getattr(parameter, "rich_help_panel", None) or kind
            groups.setdefault(title, []).append(parameter.get_help_record(context))
    for title, records in groups.items():
        yield from ("", f"**{title}**", "", _row(title.rstrip("s").lower(), "meaning"), "|---|---|")
        yield from (_row(f"`{names}`", meaning) for names, meaning in records)


def _row(*cells: str) -> str:
    """A line of a table. A bar within a cell must not end it."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _fill(_: Sphinx, __: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda mark: PAGES[mark[1]](), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
