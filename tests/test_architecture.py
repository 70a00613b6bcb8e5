"""Rules on imports between packages and sub-packages, checked by reading the code."""

from __future__ import annotations

import ast
from functools import cache
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


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of every imported module or object, including imports inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the package's name"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def subpackage(package: str, parts: list[str]) -> str:
    """The sub-package that dotted parts after the package's name lie in; "" for none."""
    return parts[0] if parts and (ROOT / package / parts[0]).is_dir() else ""


def test_packages_import_lower_packages_only() -> None:
    wrong = []
    for path in modules():
        package = path.relative_to(ROOT).parts[0]
        for line, name in imports(path):
            target = name.split(".")[0]
            if target in LEVELS and target != package and LEVELS[target] >= LEVELS[package]:
                wrong.append(f"{path}:{line}: {package} imports {target}")
    assert wrong == []


def test_subpackages_import_lower_subpackages_only() -> None:
    wrong = []
    for path in modules():
        package, *rest = path.relative_to(ROOT).with_suffix("").parts
        order, own = SUBPACKAGES.get(package, []), subpackage(package, rest)
        for line, name in imports(path) if order else []:
            target_package, *target_rest = name.split(".")
            target = subpackage(package, target_rest)
            if target_package != package or target == own:
                continue
            if order.index(target) < order.index(own) or {own, target} in INDEPENDENT:
                wrong.append(f"{path}:{line}: {own} imports {target}")
    assert wrong == []


def test_forbidden_libraries() -> None:
    wrong = []
    for path in modules():
        package = path.relative_to(ROOT).parts[0]
        for line, name in imports(path):
            if name.split(".")[0] in FORBIDDEN.get(package, set()):
                wrong.append(f"{path}:{line}: {package} imports {name}")
    assert wrong == []


def test_benchmarks_are_imported_by_their_own_tests_only() -> None:
    files = [*modules(), *(ROOT / "programs").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
    found = {path for path in files for _, name in imports(path) if name.split(".")[0] == "benchmarks"}
    assert found
    assert {path.parent for path in found} == {ROOT / "tests" / "benchmarks"}


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
