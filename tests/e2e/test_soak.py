"""A short soak, as a real process. Slow: 100 trials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_long_sweep_releases_everything(program: Callable[..., Any]) -> None:
    root = str(Path(__file__).parents[2])
    process = program(sys.executable, "-m", "benchmarks.soak", "--trials", 100, PYTHONPATH=root)
    status = process.wait(500)
    assert status == 0, process.out + process.err
    lines = process.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["12", "25", "50", "100"]
    assert [line.split(":")[0].strip() for line in lines[5:]] == ["files", "threads", "actors", "groups", "cpus"]
