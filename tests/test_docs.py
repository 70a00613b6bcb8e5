"""Documentation: commands parse, example files are valid, links exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

import forage
from forage.cli import app
from forage.python_api.options import ResumeOptions, Selection, SweepOptions
from forage.recipes.fields import recipe_fields
from search_spaces.catalogue import load_recipe, load_space
from trainables.recipe.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SPACES = ROOT / "docs/reference/spaces.md"
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

API = {"forage": forage, "run": forage.Run, "blend": forage.Blend}
OPTIONS = {name for kind in (SweepOptions, ResumeOptions, Selection) for name in kind.__annotations__}
KNOWN = {"forage", ".", "pip", "ray", "OMP_NUM_THREADS=1", "export", "bash", "cd", "optuna-dashboard"}
TOOLS = {"venv", "pip"}
GROUP = typer.main.get_command(app)


def fenced(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", page.read_text())


def shell_lines(page: Path) -> list[list[str]]:
    """Words of every command of a page."""
    joined = (re.sub(r"\\\n *", "", block) for block in fenced(page, "bash"))  # commands of several lines
    lines = [shlex.split(line, comments=True) for block in joined for line in block.splitlines()]
    return [line for line in lines if line]


def commands(page: Path) -> list[list[str]]:
    """Words after `forage` of every command of a page."""
    return [words[1:] for words in shell_lines(page) if words[0] == "forage"]


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words begin with, None if there is none, and the words after it."""
    command: Any = GROUP
    while words and hasattr(command, "commands"):
        command, words = command.commands.get(words[0]), words[1:]
    return command, words


def options(command: Any) -> set[str]:
    """Every option of a command and of the commands below it."""
    names = {"-h", "--help"} | {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    return names.union(*(options(below) for below in getattr(command, "commands", {}).values()))


def example(beginning: str, folder: Path, containing: str = "") -> str:
    """Location of a file with the first example of docs/reference/spaces.md that begins so and contains that."""
    file = folder / "example.yaml"
    file.write_text(next(b for b in fenced(SPACES, "yaml") if b.startswith(beginning) and containing in b))
    return str(file)


@EACH_PAGE
def test_commands_parse(page: Path) -> None:
    for words in commands(page):
        command, rest = find_command(words)
        assert command is not None, words
        if command is not GROUP:
            command.make_context(words[0], rest)  # raises where an argument or an option is wrong


@EACH_PAGE
def test_code_is_in_fences_where_it_is_checked(page: Path) -> None:
    text = re.sub(r"(?ms)^( *)```.*?^\1```", "", page.read_text())
    assert re.findall(r"(?m)^ {4,}(?:forage|base:|extends:|loss:|import|run =).*", text) == []


@EACH_PAGE
def test_other_programs_that_a_page_starts_are_there(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
    for words in shell_lines(page):
        words = [word for word in words if "=" not in word]
        if words[0] == "make":
            assert set(words[1:]) <= targets, words
        elif words[:2] == ["python", "-m"]:
            module = ROOT / words[2].replace(".", "/")
            assert words[2] in TOOLS or module.with_suffix(".py").exists() or module.is_dir(), words
        elif words[0] == "python":
            assert (ROOT / words[1]).exists(), words
        else:
            assert words[0] in KNOWN, words


@EACH_PAGE
def test_commands_and_options_in_the_text_exist(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    for code in re.findall(r"`((?:forage (?=[a-z])|--)[^`]+)`", text):
        words = code.removeprefix("forage ").split()
        command, _ = find_command(words) if code.startswith("forage ") else (GROUP, words)
        assert command is not None, code
        named = {word.split("=")[0] for word in words if word.startswith("--") and len(word) > 2}
        assert named <= options(command), code


def test_the_reference_has_every_command_option_and_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    pages = importlib.import_module("from_code").PAGES
    written, fields = pages["commands"](), pages["fields"]()
    for name, command in GROUP.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {"": command})
        for word, each in below.items():
            section = written.split(f"## forage {name} {word}".rstrip() + "\n")[1].split("\n## ")[0]
            assert all(
                f"`{option}" in section or f"/ {option}" in section or f", {option}" in section
                for parameter in each.params
                for option in parameter.opts
                if option.startswith("--")
            ), name
    assert all(f"`{field.field}`" in fields for field in recipe_fields(Recipe))
    for page, bars in ((written, 3), (fields, 5)):
        rows = [line for line in page.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {bars}


def test_every_command_is_shown() -> None:
    assert len(commands(ROOT / "README.md")) >= 7
    shown = {words[0] for page in PAGES for words in commands(page)}
    assert set(GROUP.commands) - shown == set()  # type: ignore[attr-defined]
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


@EACH_PAGE
def test_python_snippets_use_names_that_exist(page: Path) -> None:
    for snippet in fenced(page, "python"):
        tree = ast.parse(snippet)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                if page.name != "architecture.md":  # its snippets run in test_architecture_examples.py
                    assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in API:
                assert hasattr(API[node.value.id], node.attr), ast.unparse(node)
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("forage."):
                function = getattr(forage, ast.unparse(node.func).removeprefix("forage."))
                known = set(inspect.signature(function).parameters) | OPTIONS
                assert {word.arg for word in node.keywords} <= known, ast.unparse(node)


@EACH_PAGE
def test_links_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_files_that_the_code_names_exist() -> None:
    folders = [*(path.parent for path in ROOT.glob("*/__init__.py")), ROOT / "tests"]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".yaml")]
    named = {page for file in files for page in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text())}
    assert {page for page in named if not (ROOT / page).exists()} == set()
    assert len(named) > 3


def test_the_spaces_of_other_pages_are_valid(tmp_path: Path) -> None:
    blocks = [block for page in PAGES if page != SPACES for block in fenced(page, "yaml") if "search:" in block]
    assert len(blocks) >= 3
    for block in blocks:
        (tmp_path / "space.yaml").write_text(block.replace("density_recipe.yaml", "frozen_density"))
        load_space(str(tmp_path / "space.yaml"))


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
