"""A choice among whole recipes, in place of the base: one sweep over several published systems.

    search:
      recipe: {choice: [two_stream, multi_tile, mine.yaml]}    # names and files; `choice: all` for all shipped recipes
      validation.folds: {constant: 5}                          # set in whichever recipe is drawn
      optimizer.head_lr: {log_uniform: [1.0e-4, 1.0e-2], when: {recipe: multi_tile}}
      head.dropout: {uniform: [0.1, 0.5], when: {head.kind: [mlp, mlp_per_target]}}

    search:
      recipe:
        choice:
          small: {base: two_stream, view: {size: 384}}         # a recipe with changes, under a name of its own
          large: two_stream

The recipe is drawn first; all other parameters vary it. The `base` of such a space holds the fields that all of its
recipes shall have. The catalogue puts the content of each recipe in place of its name, so that a run directory needs
no other file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pasture.errors import InputError
from search_spaces.conditions import RECIPE
from search_spaces.parameter import Parameter
from trainables.recipe.recipe import Recipe


def checked(parameter: Parameter, source: str) -> Parameter:
    """A parameter as it is; a choice among whole recipes with all fields of each.

    Raises:
        InputError: an option is not a recipe.
    """
    if not parameter.whole or parameter.kind != "choice":
        return parameter
    where = f"{source}: search.{RECIPE}"
    recipes = {label: Recipe.parse(content, f"{where}.{label}") for label, content in parameter.options.items()}
    return parameter.model_copy(update={"options": {label: recipe.to_dict() for label, recipe in recipes.items()}})


def narrowed(parameter: Parameter, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a space file for a choice among whole recipes, with fields set in each of them.

    Args:
        parameter: the choice.
        overrides: dotted fields and their values; `recipe` leaves one of the recipes.

    Raises:
        InputError: no such recipe, or fields that do not go together with one of them.
    """
    options = dict(parameter.options)
    if RECIPE in overrides:
        if overrides[RECIPE] not in options:
            raise InputError(f"--set recipe={overrides[RECIPE]}: expected one of {', '.join(options)}")
        options = {overrides[RECIPE]: options[overrides[RECIPE]]}
    fields = {field: value for field, value in overrides.items() if field != RECIPE}
    return with_fields({"choice": options}, fields, "--set")


def with_fields(choice: Mapping[str, Any], fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The line of a space file for a choice among whole recipes, with some fields set in each of them.

    Raises:
        InputError: the fields do not go together with one of the recipes, which it names.
    """
    recipes = {
        label: Recipe.parse(content).with_overrides(fields, f"{where}, in recipe {label}")
        for label, content in choice["choice"].items()
    }
    short = {label: recipe.model_dump(mode="json", exclude_defaults=True) for label, recipe in recipes.items()}
    return {**choice, "choice": short}
