"""The trials that run first: `start` of a space file.

    start:
      - {}                                             # the base recipe
      - {backbone: small, head.dropout: 0.2}           # names of options may stand for their values
      - {loss.kind: mse, optimizer.head_lr: 3.0e-4}    # fields that are not searched may be set too

Each entry sets fields of the base recipe. Constants of the space apply where an entry does not set their field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pasture.errors import InputError
from search_spaces.conditions import hold
from search_spaces.parameter import Label, Parameter, leaves
from trainables.recipe.recipe import Recipe

_BACKBONE: Final = ("backbone", "backbone.name")


def start_recipes(
    base: Recipe, parameters: Sequence[Parameter], entries: Sequence[Mapping[str, Any]], source: str
) -> list[tuple[dict[str, Label], Recipe]]:
    """Labels and recipe of each start entry, see `Space.starts`.

    Raises:
        InputError: an unknown field, or a value out of range.
    """
    found: dict[str, tuple[dict[str, Label], Recipe]] = {}
    if entries:
        recipes = [entry_recipe(base, parameters, entry, f"{source}: start[{i}]") for i, entry in enumerate(entries)]
    else:
        recipes = list(_default(base, parameters, source))
    for recipe in recipes:
        found.setdefault(recipe.hash, (recipe_labels(parameters, recipe), recipe))
    return list(found.values())


def without_fields(
    entries: Sequence[Mapping[str, Any]], parameters: Sequence[Parameter], fields: set[str]
) -> list[dict[str, Any]]:
    """The entries without what sets any of some fields."""
    kept = ({k: v for k, v in entry.items() if not (_fields(k, v, parameters) & fields)} for entry in entries)
    return list(kept)


def _default(base: Recipe, parameters: Sequence[Parameter], source: str) -> Iterator[Recipe]:
    """The base recipe, once for each option of a choice of backbones."""
    choice = next((p for p in parameters if p.field in _BACKBONE and p.kind == "choice"), None)
    entries = [{choice.field: label} for label in choice.options] if choice else [{}]
    for entry in entries:
        try:
            yield entry_recipe(base, parameters, entry, source)
        except InputError:  # the option needs other fields to change with it; only a draw has it
            continue


def entry_recipe(base: Recipe, parameters: Sequence[Parameter], entry: Mapping[str, Any], where: str) -> Recipe:
    """The base with the values of an entry, and the constants whose conditions hold.

    Raises:
        InputError: an unknown field, or a value out of range.
    """
    values = {field: _value(field, value, parameters) for field, value in entry.items()}
    given = {leaf: part for field, value in values.items() for leaf, part in leaves(field, value)}
    flat = base.flat() | given
    constants: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind == "constant" and hold(parameter.when, flat) and not (parameter.fields() & set(given)):
            constants[parameter.field] = parameter.low
            flat |= dict(leaves(parameter.field, parameter.low))
    return base.with_overrides(constants | values, where)


def recipe_labels(parameters: Sequence[Parameter], recipe: Recipe) -> dict[str, Label]:
    """Labels of a recipe, see `Space.labels`."""
    flat = recipe.flat()
    drawn = [p for p in parameters if p.kind != "constant" and hold(p.when, flat)]
    return {parameter.field: label for parameter in drawn for label in parameter.label_in(flat)}


def _value(field: str, value: Any, parameters: Sequence[Parameter]) -> Any:
    """The value that an entry means: that of an option, where it names one."""
    for parameter in parameters:
        if parameter.field == field and isinstance(value, str) and value in parameter.options:
            return parameter.options[value]
    return value


def _fields(field: str, value: Any, parameters: Sequence[Parameter]) -> set[str]:
    return {leaf for leaf, _ in leaves(field, _value(field, value, parameters))}
