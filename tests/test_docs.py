"""Documentation: commands parse, example files are valid, links exist."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer

import forage
from forage.cli import app
from forage.python_api.options import ResumeOptions, Selection, SweepOptions
from search_spaces.catalogue import load_recipe, load_space

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = re.findall(r"(?m)(?:^ {4}.*\n|^\n)+", (ROOT / "docs/reference/spaces.md").read_text())

API = {"forage": forage, "run": forage.Run, "blend": forage.Blend}
OPTIONS = {name for kind in (SweepOptions, ResumeOptions, Selection) for name in kind.__annotations__}


def commands(page: Path) -> list[list[str]]:
    """Words after `forage` of every command in an indented block."""
    text = re.sub(r"\\\n *", "", page.read_text())  # commands of several lines
    lines = re.findall(r"(?m)^ {4}forage (.+)$", text)
    return [shlex.split(line, comments=True) for line in lines]


def example(beginning: str, folder: Path, containing: str = "") -> str:
    """Location of a file with the first example of docs/reference/spaces.md that begins so and contains that."""
    block = next(block for block in EXAMPLES if block.lstrip().startswith(beginning) and containing in block)
    file = folder / "example.yaml"
    file.write_text(re.sub(r"(?m)^ {4}", "", block))
    return str(file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page: Path) -> None:
    group = typer.main.get_command(app)
    context = group.make_context("forage", ["recipes"], resilient_parsing=True)
    for words in commands(page):
        command = group.get_command(context, words[0])  # type: ignore[attr-defined]
        assert command is not None, words
        if words[0] in ("recipes", "features") and len(words) > 1:
            command, words = command.get_command(context, words[1]), words[1:]
            assert command is not None, words
        command.make_context(words[0], words[1:])  # raises where an argument or an option is wrong


def test_the_readme_and_the_usage_show_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 7
    shown = {words[0] for words in commands(ROOT / "docs/how-to/sweep.md")}
    every = {command.name or command.callback.__name__.rstrip("_") for command in app.registered_commands}  # type: ignore[union-attr]
    assert every - shown <= {"demo", "outer-cv", "tabulate", "replay", "plan"}
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_python_snippets_use_names_that_exist() -> None:
    snippets = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "docs/how-to/python.md").read_text())
    assert len(snippets) >= 4
    for snippet in snippets:
        tree = ast.parse(snippet)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in API:
                assert hasattr(API[node.value.id], node.attr), ast.unparse(node)
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("forage."):
                function = getattr(forage, ast.unparse(node.func).removeprefix("forage."))
                known = set(inspect.signature(function).parameters) | OPTIONS
                assert {word.arg for word in node.keywords} <= known, ast.unparse(node)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_the_picture_is_xml() -> None:
    assert ElementTree.parse(ROOT / "docs/images/overview.svg").getroot().tag.endswith("svg")


def test_the_example_space_is_valid(tmp_path: Path) -> None:
    space = load_space(example("base: frozen_mlp", tmp_path, "resources:"))
    assert [labels["backbone"] for labels, _ in space.starts()] == ["convnext", "mine"]
    assert len(space.rules) == 2


def test_the_example_space_of_density_heads_is_valid(tmp_path: Path) -> None:
    space = load_space(example("base: frozen_mlp", tmp_path, "{head.kind: density}"))
    recipes = [recipe for recipe in space.variants("head", "backbone", "target") if recipe.dense]
    assert recipes
    assert all((r.backbone.pool, r.target.kind) == ("grid", "components") for r in recipes)


def test_the_example_extension_is_valid(tmp_path: Path) -> None:
    space = load_space(example("extends: default", tmp_path))
    assert space.base.schedule.epochs == 40
    assert "view.size" not in space.search
    assert space.start == []


def test_the_example_recipes_are_valid(tmp_path: Path) -> None:
    assert load_recipe(example("base: two_stream", tmp_path)).head.dropout == 0.2
    assert load_recipe(example("base: frozen_mlp", tmp_path, "pool:")).backbone.pool == "mean_max_min_gem"
    assert load_recipe(example("base: frozen_mlp", tmp_path, "intervals:")).loss.intervals.bins == 7
    assert load_recipe(example("base: frozen_mlp", tmp_path, "kind: density")) == load_recipe("frozen_density")
    assert load_recipe(example("base: frozen_mlp", tmp_path, "stages:")).stages[2].blocks == 6
