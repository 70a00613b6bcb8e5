"""What of a space can be drawn: checked before a sweep starts, as it will be drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

from pasture.errors import InputError
from search_spaces.conditions import RECIPE, Conditions, hold
from search_spaces.drawing import Fixed, Labels, complete, draw, partial_draws, with_ancestors
from search_spaces.parameter import Parameter
from trainables.recipe.recipe import Recipe

_STATES: Final = 10_000
"""Combinations of labels among which a condition must hold."""

_WITNESSES: Final = 8
"""Of those that meet a condition, how many are tried with each value of its parameter."""


def states(base: Recipe, parameters: Sequence[Parameter], conditions: Conditions) -> list[Labels]:
    """Labels under which conditions hold: a few of them, none if the conditions can never hold."""
    relevant = with_ancestors(parameters, set(conditions))
    combinations = itertools.islice(partial_draws(base, relevant, conditions), _STATES)
    holding = (labels for labels, flat in combinations if hold(conditions, flat))
    return list(itertools.islice(holding, _WITNESSES))


def check_parameters(base: Recipe, parameters: Sequence[Parameter], source: str) -> None:
    """Check that every condition can hold and every value can be part of a recipe.

    Raises:
        InputError: naming the parameter and what is allowed.
    """
    for i, parameter in enumerate(parameters):
        where = f"{source}: search.{parameter.field}"
        if parameter.whole and (i or parameter.kind != "choice" or parameter.when):
            raise InputError(f"{where}: expected a `choice` without `when`, before all other parameters")
        later = {f for p in parameters[i:] for f in p.fields()}
        for field in parameter.when:
            if field in later:
                raise InputError(f"{where}.when names {field}, which is drawn later; move it up")
        check_when(base, parameters[:i], parameter.when, where)
        try:
            _check_labels(base, parameters, i, parameters[: i + 1], where)
        except InputError as error:
            # Later parameters may be what makes a value possible. If they do not, the error is that of the value.
            try:
                _check_labels(base, parameters, i, parameters, where)
            except InputError:
                raise error from None
        if parameter.kind.endswith("uniform") and isinstance(base.flat()[parameter.field], int):
            raise InputError(f"{where}: a whole number; use `integer` instead of `{parameter.kind}`")
    for i, parameter in enumerate(parameters):
        _check_labels(base, parameters, i, parameters, f"{source}: search.{parameter.field}")


def check_when(base: Recipe, parameters: Sequence[Parameter], conditions: Conditions, where: str) -> None:
    """Check that conditions can hold in a recipe that the parameters are drawn for.

    Raises:
        InputError: naming a field that never has the values asked for.
    """
    choice = next((parameter for parameter in parameters if parameter.whole), None)
    for field, allowed in conditions.items():
        if field == RECIPE and choice is None:
            raise InputError(f"{where}.when names a recipe, but `search` has no `recipe` to choose")
        missing = [value for value in allowed if not states(base, parameters, {field: (value,)})]
        if field == RECIPE and choice and missing:
            raise InputError(f"{where}.when: recipe {missing[0]!r} is none of {', '.join(map(str, choice.options))}")
        for value in missing:
            base.with_overrides({field: value}, f"{where}.when")  # names what is allowed if the value is misspelt
        if len(missing) == len(allowed):
            raise InputError(f"{where}.when can never hold: {field} {_values(base, parameters, field)}")
    if conditions and not states(base, parameters, conditions):
        raise InputError(f"{where}.when can never hold: {' and '.join(conditions)} never have these values together")


def combinations(base: Recipe, parameters: Sequence[Parameter], names: Sequence[str], most: int) -> Iterator[Recipe]:
    """Recipes that can be drawn, with the values that some sections or fields may have, see `Space.variants`."""
    inside = {field for p in parameters for field in p.fields() if any(_within(field, name) for name in names)}
    varying = [p for p in parameters if p.fields() & inside]
    relevant = with_ancestors(parameters, inside)
    labels = [labels for labels, _ in itertools.islice(partial_draws(base, relevant, {}), most + 1)]
    if len(labels) > most:
        labels = [s | {p.field: v} for p in varying for v in p.labels() for s in states(base, parameters, p.when)[:1]]
        random = Random(0)
        labels += [draw(base, relevant, Fixed({}, random)).labels for _ in range(most - len(labels))]
    for some in labels:
        try:
            yield complete(base, parameters, some)
        except InputError:  # values that do not go together: such a draw is recorded as a failed trial
            continue


def _check_labels(
    base: Recipe, parameters: Sequence[Parameter], i: int, together: Sequence[Parameter], where: str
) -> None:
    parameter = parameters[i]
    for label in parameter.labels():
        errors = []
        for state in states(base, parameters[:i], parameter.when):
            own: Labels = {} if parameter.kind == "constant" else {parameter.field: label}
            try:
                complete(base, together, state | own, where)
                break
            except InputError as error:
                errors.append(error)
        else:
            raise errors[0]


def _within(field: str, name: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _values(base: Recipe, parameters: Sequence[Parameter], field: str) -> str:
    """The values that a field can have, as half a sentence."""
    setters = [p for p in parameters if field in p.fields()]
    if any(p.kind.endswith("uniform") and p.low < p.high for p in setters):
        return "is drawn from a continuous range; use a choice or `integer`"
    if not setters:
        return f"is {base.flat()[field]!r} in the base, and no parameter above varies it"
    found = (flat[field] for _, flat in partial_draws(base, with_ancestors(parameters, {field}), {}))
    values: Mapping[str, Any] = {repr(value): value for value in itertools.islice(found, _STATES)}
    return f"is one of {', '.join(values)}"
