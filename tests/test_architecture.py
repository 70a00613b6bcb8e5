"""The house's rules on imports, held by reading the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {"pasture": 0, "trainables": 1, "search_spaces": 2, "tune": 3, "ensemble": 3, "forage": 4}
"""Imports go to a lower floor or stay in the package: never up, never to the other room of the same floor."""

FORBIDDEN = {
    "pasture": {"torch", "timm", "ray", "optuna"},
    "search_spaces": {"torch", "timm", "ray", "optuna"},
    "ensemble": {"ray", "optuna"},
    "trainables": {"ray", "optuna"},
}
MAY_IMPORT_RAY = {"trainables/ray_trial.py", "trainables/fold_workers.py"}


def modules() -> list[Path]:
    return sorted(path for package in FLOORS for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the package's name"
            assert node.module is not None
            yield node.lineno, node.module.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for line, target in imported(path):
        allowed = target not in FLOORS or target == package or FLOORS[target] < FLOORS[package]
        assert allowed, f"{path}:{line}: {package} imports {target}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_forbidden_libraries(path: Path) -> None:
    relative = path.relative_to(ROOT)
    if relative.as_posix() in MAY_IMPORT_RAY:
        return
    for line, target in imported(path):
        assert target not in FORBIDDEN.get(relative.parts[0], set()), (
            f"{path}:{line}: {relative.parts[0]} imports {target}"
        )


def test_every_package_of_the_house_is_there() -> None:
    assert all((ROOT / package / "__init__.py").is_file() for package in FLOORS)
