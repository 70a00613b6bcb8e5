"""What the wheel holds: every module, and every other file of the packages."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[1]
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = find_packages(ROOT, include=TOOL["packages"]["find"]["include"])


def test_every_module_is_in_a_package() -> None:
    top = {name for name in PACKAGES if "." not in name}
    assert top == {"pasture", "trainables", "search_spaces", "tune", "ensemble", "forage"}
    for name in top:
        for module in (ROOT / name).rglob("*.py"):
            package = ".".join(module.parent.relative_to(ROOT).parts)
            assert package in PACKAGES, f"{module}: its folder has no __init__.py, so that the wheel lacks it"


def test_every_other_file_is_package_data() -> None:
    found = 0
    for name in (name for name in PACKAGES if "." not in name):
        files = [p for p in (ROOT / name).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
        patterns = [*TOOL["package-data"].get(name, []), *TOOL["package-data"]["*"]]
        for file in files:
            path = file.relative_to(ROOT / name).as_posix()
            assert any(fnmatch.fnmatch(path, pattern) for pattern in patterns), f"{file}: not in the wheel"
            found += 1
    assert found > 30, "presets, spaces, the files of the pages"
