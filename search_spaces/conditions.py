"""`when`: the recipes to which a part of a space file applies.

Several conditions must all hold; a list of values means any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from trainables.recipe.recipe import field_names, unknown_field

RECIPE: Final = "recipe"
"""The parameter that chooses among whole recipes; in a condition, the name of the chosen one."""


def _conditions(when: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, Mapping):
        raise ValueError("expected a mapping of recipe fields to values")
    for field in when:
        if field not in field_names() and field != RECIPE:
            raise ValueError(unknown_field(str(field)))
    return {field: tuple(v) if isinstance(v, list | tuple) else (v,) for field, v in when.items()}


Conditions = Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_conditions)]
"""Dotted field to the values it may have."""


def hold(conditions: Conditions, flat: Mapping[str, Any]) -> bool:
    """Whether a recipe, flattened, meets all conditions."""
    return all(flat.get(field) in allowed for field, allowed in conditions.items())
