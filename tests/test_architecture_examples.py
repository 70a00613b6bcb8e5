"""The examples of docs/explanation/architecture.md: each change applies to the code, and its check passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pasture", "trainables", "search_spaces", "tune", "ensemble")
EXAMPLE = re.compile(r"^### (.+?)\n.*?```diff\n(.*?)```\n+```python\n(.*?)```", re.M | re.S)
MOST_LINES = 40


def examples() -> dict[str, tuple[str, str]]:
    """Change and check of each example, by its heading."""
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    return {title: (change, check) for title, change, check in EXAMPLE.findall(text)}


def hunks(change: str) -> Iterator[tuple[str, str, str]]:
    """File, old text and new text of every hunk. A hunk is found by its text, which must be unique in the file."""
    for part in re.split(r"^(?=--- )", change, flags=re.M)[1:]:
        header, *bodies = re.split(r"^@@.*\n", part, flags=re.M)
        path = re.findall(r"^\+\+\+ b/(.+)$", header, flags=re.M)[0]
        for body in bodies:
            lines = body.splitlines(keepends=True)
            old = "".join(line[1:] or line for line in lines if not line.startswith("+"))
            new = "".join(line[1:] or line for line in lines if not line.startswith("-"))
            yield path, old, new


@pytest.mark.parametrize("title", examples())
def test_an_example_is_short(title: str) -> None:
    assert sum(len(part.splitlines()) for part in examples()[title]) < MOST_LINES


@pytest.mark.heavy
def test_the_examples_apply_and_their_checks_pass(tmp_path: Path) -> None:
    found = examples()
    assert {"A view", "A head", "A loss", "A preset", "A searcher", "A blending method"} == set(found)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for change, _ in found.values():
        for path, old, new in hunks(change):
            file = tmp_path / path
            before = file.read_text() if old else ""
            assert not old or before.count(old) == 1, f"{path} has not exactly one\n{old}"
            file.write_text(before.replace(old, new) if old else new)
    checks = "\n".join(check for _, check in found.values())
    said = subprocess.run(
        [sys.executable, "-c", checks],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert said.returncode == 0, said.stderr
