"""`forage recipes`: the shipped recipes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from forage.fit_command import fit

recipes = typer.Typer(
    help="List the shipped recipes, print one, or say what memory it needs.", rich_markup_mode="markdown"
)


@recipes.callback(invoke_without_command=True, epilog="Example: `forage recipes`")
def list_recipes(context: typer.Context) -> None:
    """List the shipped recipes, a line each."""
    if context.invoked_subcommand is None:
        from search_spaces.catalogue import describe_recipe, recipe_names

        for name in recipe_names():
            sys.stdout.write(f"{name:28} {describe_recipe(name)}\n")


@recipes.command("show", epilog="Example: `forage recipes show two_stream > my_recipe.yaml`")
def show_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe or a YAML file.")],
) -> None:
    """Print every field of a recipe as YAML."""
    from search_spaces.catalogue import load_recipe

    sys.stdout.write(load_recipe(name).to_yaml())


recipes.command(epilog="Example: `forage recipes fit dinov3_lora --gpu-memory 24`")(fit)
