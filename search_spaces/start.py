"""The trials that run first: `start` of a space file.

    start:
      - {}                                             # the base recipe
      - {backbone: small, head.dropout: 0.2}           # names of options may stand for their values
      - {loss.kind: mse, optimizer.head_lr: 3.0e-4}    # fields that are not searched may be set too
  - {recipe: two_stream, head.dropout: 0.2}        # in a space that chooses among whole recipes

Each entry sets fields of the base recipe; in a space that chooses among whole recipes, of the one that it names, or of
the first. Constants of the space apply where an entry does not set their field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pasture.errors import InputError
from search_spaces.conditions import RECIPE, hold
from search_spaces.parameter import Label, Parameter, leaves
from trainables.recipe.recipe import Recipe

_ONE_EACH: Final = (RECIPE, "backbone", "backbone.name")
"""The first of these that is a choice: each of its options runs once, in a space without `start`."""

_OF_THE_SWEEP: Final = ("schedule.epochs", "validation.", "seed", "optimizer.precision")
"""Fields in which a recipe may differ from the one that it is recognised as."""


def start_recipes(
    base: Recipe, parameters: Sequence[Parameter], entries: Sequence[Mapping[str, Any]], source: str
) -> list[tuple[dict[str, Label], Recipe]]:
    """Labels and recipe of each start entry, see `Space.starts`.

    Raises:
        InputError: an unknown field, or a value out of range.
    """
    found: dict[str, tuple[dict[str, Label], Recipe]] = {}
    if entries:
        named = ((entry, f"{source}: start[{i}]") for i, entry in enumerate(entries))
        recipes = [(entry, entry_recipe(base, parameters, entry, where)) for entry, where in named]
    else:
        recipes = list(_default(base, parameters, source))
    for entry, recipe in recipes:
        found.setdefault(recipe.hash, (recipe_labels(parameters, recipe, entry.get(RECIPE)), recipe))
    return list(found.values())


def without_fields(
    entries: Sequence[Mapping[str, Any]], parameters: Sequence[Parameter], fields: set[str]
) -> list[dict[str, Any]]:
    """The entries without what sets any of some fields."""
    kept = ({k: v for k, v in entry.items() if not (_fields(k, v, parameters) & fields)} for entry in entries)
    return list(kept)


def _default(base: Recipe, parameters: Sequence[Parameter], source: str) -> Iterator[tuple[dict[str, Any], Recipe]]:
    """Each of the recipes to choose from; else the base recipe, once for each option of a choice of backbones."""
    choices = sorted((p for p in parameters if p.field in _ONE_EACH and p.kind == "choice"), key=_rank)
    entries = [{choices[0].field: label} for label in choices[0].options] if choices else [{}]
    for entry in entries:
        try:
            yield entry, entry_recipe(base, parameters, entry, source)
        except InputError:  # the option needs other fields to change with it; only a draw has it
            continue


def entry_recipe(base: Recipe, parameters: Sequence[Parameter], entry: Mapping[str, Any], where: str) -> Recipe:
    """The base, or the recipe that the entry names, with the values of the entry and the constants whose conditions
    hold.

    Raises:
        InputError: an unknown field or recipe, or a value out of range.
    """
    _check_options(parameters, entry, where)
    values = {field: _value(field, value, parameters) for field, value in entry.items() if field != RECIPE}
    given = {leaf: part for field, value in values.items() for leaf, part in leaves(field, value)}
    flat = base.flat()
    choice = next((p for p in parameters if p.whole), None)
    if choice:
        label = entry.get(RECIPE, next(iter(choice.options)))
        if label not in choice.options:
            allowed = ", ".join(choice.options)
            raise InputError(f"{where}: recipe {label!r}: expected one of those to choose from, {allowed}")
        base, flat = Recipe.parse(choice.options[label]), choice.effect(label)
    elif RECIPE in entry:
        raise InputError(f"{where}: names a recipe, but `search` has no `recipe` to choose")
    flat |= given
    constants: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind == "constant" and hold(parameter.when, flat) and not (parameter.fields() & set(given)):
            constants[parameter.field] = parameter.low
            flat |= dict(leaves(parameter.field, parameter.low))
    return base.with_overrides(constants | values, where)


def recipe_labels(parameters: Sequence[Parameter], recipe: Recipe, chosen: Label = None) -> dict[str, Label]:
    """Labels of a recipe, see `Space.labels`.

    Args:
        parameters: of the space.
        recipe: the recipe.
        chosen: which of the whole recipes it comes from, if that is known.
    """
    flat, found = recipe.flat(), dict[str, Label]()
    for parameter in parameters:
        if parameter.whole:
            if chosen is None:
                chosen = _recognised(parameter, parameters, flat)
            if chosen is None:
                return {}  # no recipe of the space
            found[RECIPE] = flat[RECIPE] = chosen
        elif parameter.kind != "constant" and hold(parameter.when, flat):
            found.update((parameter.field, label) for label in parameter.label_in(flat))
    return found


def _recognised(choice: Parameter, parameters: Sequence[Parameter], flat: Mapping[str, Any]) -> Label:
    """The first of the whole recipes that has all fields of a recipe but those that vary; None if none has."""
    varied = {field for parameter in parameters if not parameter.whole for field in parameter.fields()}
    for label in choice.options:
        expected = {f: v for f, v in choice.effect(label).items() if f not in varied and f in flat}
        if all(flat[f] == value or f.startswith(_OF_THE_SWEEP) for f, value in expected.items()):
            return str(label)
    return None


def _rank(parameter: Parameter) -> int:
    return _ONE_EACH.index(parameter.field)


def _check_options(parameters: Sequence[Parameter], entry: Mapping[str, Any], where: str) -> None:
    """Check that an entry names an option of each parameter whose options have several fields."""
    for parameter in parameters:
        value, options = entry.get(parameter.field), parameter.options
        named = bool(options) and all(isinstance(option, Mapping) for option in options.values())
        if named and isinstance(value, str) and value not in options:
            raise InputError(
                f"{where}: {parameter.field} {value!r}: expected one of its options, {', '.join(options)}; "
                "a space that extends another one and has other options needs a `start` of its own"
            )


def _value(field: str, value: Any, parameters: Sequence[Parameter]) -> Any:
    """The value that an entry means: that of an option, where it names one."""
    for parameter in parameters:
        if parameter.field == field and isinstance(value, str) and value in parameter.options:
            return parameter.options[value]
    return value


def _fields(field: str, value: Any, parameters: Sequence[Parameter]) -> set[str]:
    return {RECIPE} if field == RECIPE else {leaf for leaf, _ in leaves(field, _value(field, value, parameters))}
