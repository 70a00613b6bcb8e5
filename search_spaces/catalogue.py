"""The named recipes and the named spaces: YAML files in this package, and files of the user's.

    base: dinov2_mlp                        # in a recipe: the fields of another recipe, unless set here
    extends: default                        # in a space: the content of another space, unless set here

A name is that of a shipped recipe or space, or a file, relative to the file that names it. The recipes that a space
chooses among are read here too (see whole_recipes.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pasture.errors import InputError
from search_spaces.conditions import RECIPE
from search_spaces.space import SECTIONS, Space
from search_spaces.whole_recipes import with_fields
from search_spaces.yaml_file import read_yaml
from trainables.recipe.recipe import Recipe

_Word = Literal["recipe", "space"]
_FOLDERS: dict[_Word, str] = {"recipe": "presets", "space": "spaces"}


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return _names("recipe")


def space_names() -> list[str]:
    """Names of the shipped search spaces."""
    return _names("space")


def load_recipe(name_or_file: str) -> Recipe:
    """A shipped recipe by name, or one from a YAML file.

    Raises:
        InputError: no such name or file, or not a recipe.
    """
    return _recipe(name_or_file, Path(), ())


def describe_recipe(name: str) -> str:
    """The first line of a shipped recipe's file: what it is."""
    return (_folder("recipe") / f"{name}.yaml").read_text().splitlines()[0].removeprefix("# ")


def load_space(name_or_file: str) -> Space:
    """A shipped search space by name, or one from a YAML file, checked against the recipe.

    Raises:
        InputError: no such name or file, an unknown field, a range the recipe does not allow.
    """
    return Space.parse(_space(name_or_file, Path(), ()), f"space {name_or_file}")


def parse_space(content: Mapping[str, Any]) -> Space:
    """A search space from what a file would hold; names of files in it are relative to the working directory.

    Raises:
        InputError: as `load_space`.
    """
    return Space.parse(_whole(dict(content), Path(), (), "space"), "space")


def _recipe(name: str, folder: Path, above: tuple[str, ...]) -> Recipe:
    source = f"recipe {name}"
    content, folder = _read("recipe", name, folder, above)
    return _recipe_of(content, source, folder, (*above, name))


def _recipe_of(content: Mapping[str, Any], source: str, folder: Path, above: tuple[str, ...]) -> Recipe:
    """The recipe that a file, or a mapping, describes."""
    fields = {str(field): value for field, value in content.items() if field != "base"}
    base = content.get("base")
    if base is None:
        return Recipe.parse(fields, source)
    if not isinstance(base, str):
        raise InputError(f"{source}: base: expected the name of a recipe or a file, got {base!r}")
    return _recipe(base, folder, above).with_overrides(fields, source)


def _space(name: str, folder: Path, above: tuple[str, ...]) -> dict[str, Any]:
    """The content of a space, with that of the spaces which it extends, and its base as a whole recipe."""
    content, folder = _read("space", name, folder, above)
    return _whole(content, folder, (*above, name), f"space {name}")


def _whole(content: dict[str, Any], folder: Path, above: tuple[str, ...], source: str) -> dict[str, Any]:
    if unknown := [key for key in content if key not in ("extends", *SECTIONS)]:
        raise InputError(f"{source}: unknown key {unknown[0]!r}; expected extends, {', '.join(SECTIONS)}")
    parent = content.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise InputError(f"{source}: extends: expected the name of a space or a file, got {parent!r}")
    inherited = {} if parent is None else _space(parent, folder, above)
    base = content.get("base", {})
    fields = base if isinstance(base, Mapping) else {}
    if isinstance(base, str):
        base = _recipe(base, folder, ()).to_dict()
    elif isinstance(base, Mapping):
        base = Recipe.parse(inherited.get("base", {})).with_overrides(base, f"{source}: base").to_dict()
    search = content.get("search") or {}
    if isinstance(search, Mapping):
        # `null` removes a parameter of the extended space; a changed one keeps its place in the order.
        merged = {str(field): spec for field, spec in {**inherited.get("search", {}), **search}.items()}
        dropped = {f for f, spec in search.items() if spec is None and f in inherited.get("search", {})}
        search = {field: spec for field, spec in merged.items() if field not in dropped}
        if isinstance(search.get(RECIPE), Mapping):
            if isinstance(content.get("base"), str):
                raise InputError(
                    f"{source}: base: it would be replaced by the recipes of search.recipe; give only the fields that "
                    "all of them shall have"
                )
            recipes = _choice(search[RECIPE], source, folder)
            search |= {RECIPE: with_fields(recipes, fields, f"{source}: base")}
            base = Recipe.parse(next(iter(search[RECIPE]["choice"].values()), {})).to_dict()
    return {**inherited, **content, "base": base, "search": search}


def _choice(spec: Mapping[str, Any], source: str, folder: Path) -> dict[str, Any]:
    """A choice among whole recipes, with the content of each in place of its name."""
    named = spec.get("choice")
    if named == "all":
        named = recipe_names()
    if isinstance(named, list):
        named = {str(name): name for name in named}
    if not isinstance(named, Mapping) or not named:
        raise InputError(
            f"{source}: search.recipe.choice: expected names of recipes or files, a mapping of names to recipes, or "
            f"`all` for all shipped ones; got {named!r}"
        )
    recipes = {}
    for label, recipe in named.items():
        where = f"{source}: search.recipe.{label}"
        if isinstance(recipe, Mapping):
            read = _recipe_of(recipe, where, folder, ())
        elif isinstance(recipe, str):
            read = _recipe(recipe, folder, ())
        else:
            raise InputError(f"{where}: expected the name of a recipe, a file or a mapping, got {recipe!r}")
        recipes[str(label)] = read.model_dump(mode="json", exclude_defaults=True)
    return {**spec, "choice": recipes}


def _folder(word: _Word) -> Traversable:
    return resources.files("search_spaces") / _FOLDERS[word]


def _names(word: _Word) -> list[str]:
    return sorted(f.name.removesuffix(".yaml") for f in _folder(word).iterdir() if f.name.endswith(".yaml"))


def _read(word: _Word, name: str, folder: Path, above: tuple[str, ...]) -> tuple[dict[str, Any], Path]:
    """The mapping of a shipped file or a user's file, and the folder that names in it are relative to."""
    if name in above:
        raise InputError(f"{word} {name}: it is built on itself ({' -> '.join((*above, name))})")
    if name in _names(word):
        text, folder = (_folder(word) / f"{name}.yaml").read_bytes(), Path()
    elif (folder / name).is_file():
        text, folder = (folder / name).read_bytes(), (folder / name).parent
    else:
        raise InputError(f"no {word} {name!r}: neither a file nor one of the shipped ones ({', '.join(_names(word))})")
    content = read_yaml(text, f"{word} {name}")
    if content is None or content == {}:
        expected = "`base` and `search`" if word == "space" else "at least one field"
        raise InputError(f"{word} {name}: the file is empty; expected {expected}")
    if not isinstance(content, dict):
        raise InputError(f"{word} {name}: expected a mapping, got {type(content).__name__}")
    return content, folder
