from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.table import Options, Row, table
from benchmarks.timing import Pairs


def row(ratio: float, at_least: float | None = None, at_most: float | None = None) -> Row:
    return Row("trials", "10 s", "20 s", ratio, "harness", at_least, at_most)


@pytest.mark.parametrize(
    ("shown", "goal"),
    [
        (row(2.0, at_least=2), "≥ 2 met"),
        (row(1.99, at_least=2), "≥ 2 missed"),
        (row(1.5, at_most=1.5), "≤ 1.5 met"),
        (row(1.51, at_most=1.5), "≤ 1.5 missed"),
        (row(9.0), ""),
    ],
)
def test_a_goal_is_met_or_missed(shown: Row, goal: str) -> None:
    assert shown.goal == goal


def test_every_row_has_the_command_that_prints_it_again() -> None:
    lines = table([row(123.4, at_least=200), row(0.5)], Options(Path("photos"))).splitlines()
    assert [line.count("|") for line in lines] == [7] * 4
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    command = "python -m benchmarks.harness --data photos"
    assert cells[0] == ["trials", "10 s", "20 s", "123", "≥ 200 missed", command]
    assert cells[1] == ["trials", "10 s", "20 s", "0.5", "", command]


def test_the_ratio_is_the_median_over_pairs() -> None:
    told = Pairs((1.0, 2.0, 1.0), (3.0, 4.0, 100.0), None, None)
    assert told.ratio == 3.0  # of 3, 2 and 100
    assert (told.our_seconds, told.their_seconds) == (1.0, 4.0)
