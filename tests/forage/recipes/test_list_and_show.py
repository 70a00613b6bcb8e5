"""`forage recipes`: every field is explained, as the recipe itself has it."""

from __future__ import annotations

import json
from typing import Any

from forage.recipes.fields import recipe_fields
from search_spaces.catalogue import recipe_names
from trainables.recipe.recipe import Recipe


def test_every_field_is_listed_with_its_default_and_a_meaning() -> None:
    fields = {field.field: field for field in recipe_fields(Recipe)}
    flat = Recipe().flat()
    assert {name for name in fields if "[]" not in name} == set(flat)
    assert {name: field.default for name, field in fields.items() if "[]" not in name} == flat
    assert all(field.meaning for field in fields.values())


def test_values_are_choices_or_a_type_with_bounds() -> None:
    fields = {field.field: field.values for field in recipe_fields(Recipe)}
    assert fields["head.dropout"] == "float >= 0, < 1"
    assert fields["inference.tta"] == "none | flips | d4"
    assert fields["head.hidden"] == "list of int >= 1, <= 8192"
    assert fields["schedule.stages[].head_lr"].startswith("float >")
    assert fields["backbone.standardize"] == "bool"


def test_fields_of_a_section(shell: Any) -> None:
    said = shell("recipes", "fields", "loss.lds", "--json")
    fields = [field["field"] for field in json.loads(said.out)]
    assert said.status == 0
    assert fields
    assert all(field.startswith("loss.lds.") for field in fields)
    text = shell("recipes", "fields", "loss").out
    assert "loss.beta" in text
    assert "Loss of one predicted value;" in text
    said = shell("recipes", "fields", "los")
    assert (said.status, said.out) == (2, "")
    assert "los: no recipe field starts with this; the sections are view, backbone" in said.err


def test_list_and_show(shell: Any) -> None:
    described = json.loads(shell("recipes", "list", "--json").out)
    assert list(described) == recipe_names()
    assert all(name in shell("recipes", "list").out for name in described)
    recipe = Recipe.parse(json.loads(shell("recipes", "show", "feature_ridge", "--json").out))
    assert Recipe.from_yaml(shell("recipes", "show", "feature_ridge").out, "shown") == recipe
