"""`when`: the recipes for which a part of a space file applies.

Several conditions must all hold; a list of values means any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pasture.errors import InputError
from trainables.recipe.recipe import Recipe, unknown_field

Conditions = dict[str, tuple[Any, ...]]
"""Dotted field to the values it may have."""


def parse_conditions(spec: Mapping[str, Any], where: str) -> Conditions:
    """The `when` of a mapping; empty where it has none.

    Raises:
        InputError: not a mapping.
    """
    when = spec.get("when") or {}
    if not isinstance(when, Mapping):
        raise InputError(f"{where}.when: expected a mapping of recipe fields to values")
    return {str(f): tuple(v) if isinstance(v, list) else (v,) for f, v in when.items()}


def check_conditions(conditions: Conditions, base: Recipe, where: str) -> None:
    """Try every condition on a recipe: a value that none can have would switch something off in silence.

    Raises:
        InputError: unknown field, or a value out of range.
    """
    for field, allowed in conditions.items():
        if field not in base.flat():
            raise InputError(f"{where}.when: {unknown_field(field)}")
        for value in allowed:
            base.with_overrides({field: value}, f"{where}.when")


def hold(conditions: Conditions, flat: Mapping[str, Any]) -> bool:
    """Whether a recipe, flattened, meets all conditions."""
    return all(flat.get(field) in allowed for field, allowed in conditions.items())
