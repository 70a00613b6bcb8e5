"""The blend as a table for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from ensemble.blend.blend import Blend
from forage.terminal.messages import show_table
from forage.terminal.tables import blend_table


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Blend], str]:
    """The table as the command line prints it."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(blend: Blend) -> str:
        show_table(blend_table(blend))
        return capsys.readouterr().out

    return call


def test_scores_stand_side_by_side_and_members_below(blend: Blend, printed: Callable[[Blend], str]) -> None:
    text = printed(blend)
    lines = [line.split() for line in text.splitlines()]
    names = [line[1] for line in lines if len(line) > 2 and line[1] in {"nested", "fitted", "optimum", "uniform"}]
    assert names[0] == "nested", "the one to quote comes first"
    for name in ("nested", "fitted", "optimum", "best_single", "uniform", "baseline"):
        assert f"{blend.estimate[name]:.4f}" in text
    low, high = blend.estimate["interval"]
    assert f"{low:.4f} to {high:.4f}" in text
    for member in blend.members:
        assert f"{member.key} " in text
        assert f" {member.weight:.3f} " in text


def test_every_target_has_a_score_and_an_error(blend: Blend, printed: Callable[[Blend], str]) -> None:
    text = printed(blend)
    for name, scores in blend.estimate["targets"].items():
        (line,) = (line for line in text.splitlines() if f" {name} " in line)
        assert f"{scores['nested_r2']:.4f}" in line
        assert f"{scores['nested_rmse']:.2f}" in line


def test_absent_scores_are_dashes(blend: Blend, printed: Callable[[Blend], str]) -> None:
    text = printed(dataclasses.replace(blend, estimate={**blend.estimate, "nested": None, "interval": None}))
    assert "no interval" in text
    assert "None" not in text


def test_a_run_name_is_printed_as_it_is(blend: Blend, printed: Callable[[Blend], str]) -> None:
    member = dataclasses.replace(blend.members[0], key="[red]a:cat:b-t0000")
    assert "[red]a:cat:b-t0000" in printed(dataclasses.replace(blend, members=(member,)))
