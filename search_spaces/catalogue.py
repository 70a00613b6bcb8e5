"""The named recipes and the named spaces: YAML files beside this module."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from pasture.errors import InputError
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return _names("presets")


def space_names() -> list[str]:
    """Names of the shipped search spaces."""
    return _names("spaces")


def load_recipe(name_or_file: str) -> Recipe:
    """A shipped recipe by name, or one from a YAML file.

    Raises:
        InputError: no such name or file, or not a recipe.
    """
    return Recipe.parse(_read("presets", name_or_file, "recipe"), f"recipe {name_or_file}")


def describe_recipe(name: str) -> str:
    """The first line of a shipped recipe's file: what it is."""
    return (_folder("presets") / f"{name}.yaml").read_text().splitlines()[0].removeprefix("# ")


def load_space(name_or_file: str) -> Space:
    """A shipped search space by name, or one from a YAML file, checked against the recipe.

    Raises:
        InputError: no such name or file, an unknown field, a range the recipe does not allow.
    """
    source = f"space {name_or_file}"
    content = _read("spaces", name_or_file, "space")
    if not isinstance(content, dict):
        raise InputError(f"{source}: expected a mapping with `base` and `search`")
    base = content.get("base", {})
    recipe = load_recipe(base) if isinstance(base, str) else Recipe.parse(base, f"{source}: base")
    return Space.parse({**content, "base": recipe.to_dict()}, source)


def _folder(kind: str) -> Traversable:
    return resources.files("search_spaces") / kind


def _names(kind: str) -> list[str]:
    return sorted(f.name.removesuffix(".yaml") for f in _folder(kind).iterdir() if f.name.endswith(".yaml"))


def _read(kind: str, name_or_file: str, word: str) -> Any:
    if name_or_file in _names(kind):
        content = (_folder(kind) / f"{name_or_file}.yaml").read_bytes()
    elif Path(name_or_file).is_file():
        content = Path(name_or_file).read_bytes()
    else:
        raise InputError(
            f"no {word} {name_or_file!r}: neither a file nor one of the shipped ones ({', '.join(_names(kind))})"
        )
    try:
        return yaml.safe_load(content) or {}
    except (yaml.YAMLError, ValueError) as error:  # an impossible date is a ValueError
        raise InputError(f"{word} {name_or_file}: not YAML ({' '.join(str(error).split())})") from None
