"""`forage recipes`: the shipped recipes, and the fields that a recipe has."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from forage.recipes.fields import fields_command
from forage.recipes.fit import fit
from forage.terminal.messages import print_json
from forage.terminal.options import JsonOption

recipes = typer.Typer(
    help="List the shipped recipes, print one, explain the fields.", no_args_is_help=True, rich_markup_mode="markdown"
)


@recipes.command("list", epilog="Example: `forage recipes list`")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the shipped recipes, a line each."""
    from search_spaces.catalogue import describe_recipe, recipe_names

    described = {name: describe_recipe(name) for name in recipe_names()}
    if as_json:
        print_json(described)
        return
    for name, description in described.items():
        sys.stdout.write(f"{name:28} {description}\n")


@recipes.command("show", epilog="Example: `forage recipes show two_stream > my_recipe.yaml`")
def show_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe or a YAML file.")],
    as_json: JsonOption = False,
) -> None:
    """Print every field of a recipe as YAML."""
    from search_spaces.catalogue import load_recipe

    recipe = load_recipe(name)
    if as_json:
        print_json(recipe.to_dict())
    else:
        sys.stdout.write(recipe.to_yaml())


recipes.command("fields", epilog="Example: `forage recipes fields loss`")(fields_command)
recipes.command("fit", epilog="Example: `forage recipes fit dinov3_lora --gpu-memory 24`")(fit)
