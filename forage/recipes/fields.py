"""`forage recipes fields`: what every field of a recipe means, generated from the recipe itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.table import Table

from forage.terminal.messages import print_json, show_table
from forage.terminal.options import JsonOption
from pasture.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True)
class RecipeField:
    """One field of a recipe.

    Attributes:
        field: dotted name, as `--set` takes it.
        values: what it may be: a type with its bounds, or the choices.
        default: as in YAML.
        meaning: its description.
    """

    field: str
    values: str
    default: Any
    meaning: str


def fields_command(
    beginning: Annotated[
        str,
        typer.Argument(metavar="[BEGINNING]", help="Only fields that start with this, such as `loss` or `loss.lds`."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List every field of a recipe: what it means, what it may be, its default."""
    from trainables.recipe.recipe import Recipe

    chosen = [
        f for f in recipe_fields(Recipe) if f"{f.field}.".startswith(f"{beginning.rstrip('.')}.") or not beginning
    ]
    if not chosen:
        sections = ", ".join(Recipe.model_fields)
        raise InputError(f"{beginning}: no recipe field starts with this; the sections are {sections}")
    if as_json:
        print_json([asdict(field) for field in chosen])
        return
    table = Table("field", "values", "default", "meaning", show_lines=True)
    for field in chosen:
        table.add_row(field.field, field.values, str(field.default), field.meaning)
    show_table(table)


def recipe_fields(model: type[BaseModel], above: str = "") -> Iterator[RecipeField]:
    """All fields of a recipe, in its order; those of a list of sections as `section[].field`."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if section := _section(kind):
            yield from recipe_fields(section, f"{above}{name}.")
            continue
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        plain = list(default) if isinstance(default, tuple) else default
        meaning = " ".join((info.description or "").split())
        yield RecipeField(f"{above}{name}", _values(kind, info), plain, meaning)
        for inner in get_args(kind):
            if section := _section(inner):
                yield from recipe_fields(section, f"{above}{name}[].")


def _section(kind: Any) -> type[BaseModel] | None:
    from pydantic import BaseModel

    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _values(kind: Any, info: FieldInfo | None) -> str:
    """A type in words: `float >= 0, < 1`, `none | flips | d4`, `list of int >= 0`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin is Annotated:
        return _values(inner[0], next((note for note in inner[1:] if hasattr(note, "metadata")), None))
    if origin in (Union, UnionType):
        return " | ".join(_values(each, info) for each in inner)
    if origin in (tuple, list):
        return f"list of {_values(inner[0], None)}"
    if kind is type(None):
        return "null"
    bounds = [
        f"{_SIGNS[n]} {getattr(m, n):g}" for m in (info.metadata if info else ()) for n in _SIGNS if hasattr(m, n)
    ]
    name = "section" if _section(kind) else getattr(kind, "__name__", str(kind))
    return " ".join([name, ", ".join(bounds)]).strip()
