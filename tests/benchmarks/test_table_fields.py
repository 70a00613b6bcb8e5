"""benchmarks/table_fields.py on a small table of formulas."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import table_fields
from forage.replay.blend import outer_loss, pooled_r2
from forage.replay.table import Table
from pasture.errors import InputError
from tests.forage.replay.conftest import make_table

__all__ = ["make_table"]
MakeTable = Callable[..., Table]


def test_every_recipe_that_has_a_field_is_in_one_row_of_it(make_table: MakeTable) -> None:
    table = make_table(recipes=24)
    rows = list(table_fields.rows(table, list(range(24))))
    for parameter in table.space.parameters:
        entries = [n for row in rows if row.field == parameter.field for n in row.entries]
        assert sorted(entries) == [n for n, entry in enumerate(table.entries) if parameter.field in entry.labels]
    for row in rows:
        labels = [table.entries[n].labels[row.field] for n in row.entries]
        if " to " in row.label:
            low, high = map(float, row.label.split(" to "))
            assert all(low * 0.99 <= float(str(label)) <= high * 1.01 for label in labels)
        else:
            assert {str(label) for label in labels} == {row.label}


def test_scores_are_those_on_outer_dates(make_table: MakeTable) -> None:
    table = make_table(recipes=24)
    header, _, *lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table_fields.field_table(table).splitlines()
    ]
    for line, row in zip(lines, table_fields.rows(table, list(range(24))), strict=True):
        shown = dict(zip(header, line, strict=True))
        singles = [
            pooled_r2(table.splits, [outer_loss(table, s, [n], "uniform") for s in table.splits]) for n in row.entries
        ]
        assert float(shown["outer R2"]) == pytest.approx(sum(singles) / len(singles), abs=6e-4)
        assert int(shown["recipes"]) == len(row.entries)


def test_a_file_that_is_no_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["table_fields", str(tmp_path / "none.parquet")])
    with pytest.raises(SystemExit, match="2"):
        table_fields.main()
    assert "none.parquet" in capsys.readouterr().err


def test_only_recipes_with_a_choice(make_table: MakeTable) -> None:
    table = make_table(recipes=24)
    row = next(row for row in table_fields.rows(table, list(range(24))) if " to " not in row.label)
    lines = table_fields.field_table(table, f"{row.field}={row.label}").splitlines()
    assert [line for line in lines if f"| {row.field} | {row.label} | {len(row.entries)} |" in line]
    with pytest.raises(InputError, match="no recipe of the table has it"):
        table_fields.field_table(table, f"{row.field}=clouds")
