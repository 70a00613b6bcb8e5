"""Rules on imports between packages and sub-packages, checked by reading the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS = {"pasture": 0, "trainables": 1, "search_spaces": 2, "tune": 3, "ensemble": 3, "forage": 4}
"""A package imports itself and packages of lower levels, never another package of its own level."""

SUBPACKAGES = {
    "pasture": ["synthetic", ""],
    "trainables": ["trial", "fitted", "training", "features", "network", "images", "compute", "recipe"],
    "ensemble": ["prediction", "blend", "estimate", "weighting", "members"],
    "tune": ["", "cluster", "search", "pruning", "trackers", "records"],
    "forage": [
        "",
        "commands",
        "environment",
        "recipes",
        "replay",
        "outer_cv",
        "python_api",
        "bundling",
        "blending",
        "results",
        "pages",
        "figures",
        "terminal",
    ],
}
"""From top to bottom: a sub-package imports itself and those below it. "" stands for modules beside them."""

INDEPENDENT = [{"images", "compute"}]
"""Sub-packages of one level: they do not import each other."""

FORBIDDEN = {
    "pasture": {"torch", "timm", "ray", "optuna"},
    "search_spaces": {"torch", "timm", "ray", "optuna"},
    "ensemble": {"ray", "optuna"},
    "trainables": {"ray", "optuna"},
}

MOST_MODULES = 10
"""In one folder of trainables, ensemble and tune."""


def modules() -> list[Path]:
    return sorted(path for package in LEVELS for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every imported module or object, including imports inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the package's name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def subpackage(package: str, parts: list[str]) -> str:
    """The sub-package that dotted parts after the package's name lie in; "" for none."""
    return parts[0] if parts and (ROOT / package / parts[0]).is_dir() else ""


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_packages_import_lower_packages_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for line, name in imports(path):
        target = name.split(".")[0]
        allowed = target not in LEVELS or target == package or LEVELS[target] < LEVELS[package]
        assert allowed, f"{path}:{line}: {package} imports {target}"


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if path.relative_to(ROOT).parts[0] in SUBPACKAGES],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_subpackages_import_lower_subpackages_only(path: Path) -> None:
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    order, own = SUBPACKAGES[package], subpackage(package, rest)
    for line, name in imports(path):
        target_package, *target_rest = name.split(".")
        if target_package != package:
            continue
        target = subpackage(package, target_rest)
        assert order.index(target) >= order.index(own), f"{path}:{line}: {own} imports {target}"
        assert target == own or {own, target} not in INDEPENDENT, f"{path}:{line}: {own} imports {target}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_forbidden_libraries(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for line, name in imports(path):
        library = name.split(".")[0]
        assert library not in FORBIDDEN.get(package, set()), f"{path}:{line}: {package} imports {library}"


def test_every_subpackage_is_known_and_described() -> None:
    for package in LEVELS:
        assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())), package
        found = {p.parent.name for p in (ROOT / package).glob("*/__init__.py")}
        assert found == set(SUBPACKAGES.get(package, [])) - {""}, package
        for name in found:
            described = ast.get_docstring(ast.parse((ROOT / package / name / "__init__.py").read_text()))
            assert described, f"{package}/{name}/__init__.py says what belongs there"


@pytest.mark.parametrize("package", ["trainables", "ensemble", "tune", "forage"])
def test_no_folder_is_crowded(package: str) -> None:
    for folder in (ROOT / package, *(p for p in (ROOT / package).iterdir() if p.is_dir())):
        names = [p.name for p in folder.glob("*.py") if p.name != "__init__.py"]
        assert len(names) <= MOST_MODULES, f"{folder}: {len(names)} modules"
