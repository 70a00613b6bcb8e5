"""Drawing a recipe: parameters in order, each where its condition holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from pasture.errors import InputError
from search_spaces.conditions import RECIPE, hold
from search_spaces.parameter import Label, Parameter, Suggest
from trainables.recipe.recipe import Recipe

Labels = dict[str, Label]
"""Dotted field of a parameter to the label that was drawn."""

_TRIES = 100
"""Random draws after which a combination of labels counts as impossible."""


class Draw(NamedTuple):
    """What was drawn.

    Attributes:
        base: the base recipe, or the one that was chosen in its place.
        labels: of the parameters that a sampler was asked for.
        values: dotted field or section to value, constants too.
        flat: the flattened base with the values put in.
    """

    base: Recipe
    labels: Labels
    values: dict[str, Any]
    flat: dict[str, Any]

    def recipe(self, where: str = "recipe") -> Recipe:
        """The recipe that was drawn.

        Raises:
            InputError: the values do not go together.
        """
        return self.base.with_overrides(self.values, where)


def draw(base: Recipe, parameters: Sequence[Parameter], trial: Suggest) -> Draw:
    """Ask for every parameter whose condition holds; whether the result is a recipe is not checked."""
    drawn = Draw(base, {}, {}, base.flat())
    for parameter in parameters:
        if not hold(parameter.when, drawn.flat):
            continue
        label = parameter.low
        if parameter.kind != "constant":
            label = drawn.labels[parameter.field] = parameter.draw(trial)
        drawn.flat.update(parameter.effect(label))
        if parameter.whole:
            drawn = drawn._replace(base=Recipe.parse(parameter.value(label)))
        else:
            drawn.values[parameter.field] = parameter.value(label)
    return drawn


class Fixed:
    """Suggests fixed labels; for other fields the first label, or a random one.

    Args:
        labels: to suggest.
        random: for other fields; None for their first label.
    """

    def __init__(self, labels: Mapping[str, Label], random: Random | None = None) -> None:
        self.labels, self.random = labels, random

    def suggest_categorical(self, name: str, choices: Sequence[Label]) -> Label:
        """As of an Optuna trial."""
        return self._pick(name, choices)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """As of an Optuna trial, but one of the ends: they are valid only if all between them are."""
        return float(self._pick(name, (low, high)))  # type: ignore[arg-type]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """As of an Optuna trial, but one of the ends."""
        return int(self._pick(name, (low, high)))  # type: ignore[arg-type]

    def _pick(self, name: str, choices: Sequence[Label]) -> Label:
        if name in self.labels:
            return self.labels[name]
        return self.random.choice(choices) if self.random else choices[0]


def complete(base: Recipe, parameters: Sequence[Parameter], labels: Labels, where: str = "space") -> Recipe:
    """A recipe that can be drawn and has these labels; the other labels are the first ones if they go together.

    Raises:
        InputError: no such recipe was found; with the reason why the first labels do not go together.
    """
    try:
        return draw(base, parameters, Fixed(labels)).recipe(where)
    except InputError as error:
        random = Random(0)
        seen = set()
        for _ in range(_TRIES):
            drawn = draw(base, parameters, Fixed(labels, random))
            key = f"{drawn.flat.get(RECIPE)} {drawn.values}"
            if key in seen or labels.items() - drawn.labels.items():
                continue
            seen.add(key)
            try:
                return drawn.recipe(where)
            except InputError:
                continue
        raise error


def partial_draws(
    base: Recipe, parameters: Sequence[Parameter], extra: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[Labels, dict[str, Any]]]:
    """Every combination of labels of some parameters, conditions respected.

    Args:
        base: recipe below them.
        parameters: in the order of the space, with those that their conditions depend on.
        extra: dotted field to values that are tried too where they lie within an integer range.

    Yields:
        The labels, and the flattened base with their values put in.
    """

    def descend(i: int, labels: Labels, flat: dict[str, Any]) -> Iterator[tuple[Labels, dict[str, Any]]]:
        if i == len(parameters):
            yield labels, flat
            return
        parameter = parameters[i]
        if not hold(parameter.when, flat):
            yield from descend(i + 1, labels, flat)
            return
        for label in _labels(parameter, extra):
            chosen = {} if parameter.kind == "constant" else {parameter.field: label}
            # No condition can rely on a number from a continuous range: an object is equal to none.
            continuous = parameter.kind.endswith("uniform") and parameter.low < parameter.high
            effect = {parameter.field: object()} if continuous else parameter.effect(label)
            yield from descend(i + 1, labels | chosen, flat | effect)

    yield from descend(0, {}, base.flat())


def _labels(parameter: Parameter, extra: Mapping[str, Sequence[Any]]) -> list[Any]:
    if parameter.kind != "integer":
        return parameter.labels()
    more = (v for v in extra.get(parameter.field, ()) if isinstance(v, int) and parameter.low <= v <= parameter.high)
    return [*dict.fromkeys([*parameter.labels(), *more])]


def with_ancestors(parameters: Sequence[Parameter], fields: set[str]) -> list[Parameter]:
    """The parameters that set some fields, and those that decide whether they are drawn, in the given order."""
    wanted, needed = set(fields), set[str]()
    for parameter in reversed(parameters):
        if parameter.fields() & wanted:
            needed.add(parameter.field)
            wanted |= set(parameter.when)
    return [parameter for parameter in parameters if parameter.field in needed]
