"""The file of a table, and the nearest recipe in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forage.replay.snap import Snap
from forage.replay.table import Table
from pasture.errors import InputError

MakeTable = Callable[..., Table]


def test_a_table_is_read_as_it_was_written_but_for_half_precision(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table(recipes=5)
    table.splits[1].trained[3] = None
    table.write(tmp_path / "table.parquet")
    read = Table.read(tmp_path / "table.parquet")
    assert read.entries == table.entries
    assert read.space.to_dict() == table.space.to_dict()
    for one, other in zip(table.splits, read.splits, strict=True):
        assert np.array_equal(one.truth, other.truth)
        assert np.array_equal(one.outer_truth, other.outer_truth)
        assert one.dates.tolist() == other.dates.tolist()
        for mine, theirs in zip(one.trained, other.trained, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                np.testing.assert_allclose(theirs.scores, mine.scores, rtol=1e-6)
                np.testing.assert_allclose(theirs.date_losses, mine.date_losses, rtol=1e-6)
                np.testing.assert_allclose(theirs.oof, mine.oof, rtol=1e-3, atol=1e-3)
                assert theirs.outer.shape == mine.outer.shape
    assert read.splits[1].trained[3] is None


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; expected a table that `forage tabulate` wrote"):
        Table.read(tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("grass")
    with pytest.raises(InputError, match="damaged, not a readable Parquet file"):
        Table.read(tmp_path / "text.parquet")


def test_a_recipe_is_nearest_to_itself(make_table: MakeTable) -> None:
    table = make_table()
    snap = Snap(table.space.parameters, [entry.labels for entry in table.entries])
    known, used = np.ones(40, dtype=bool), np.zeros(40, dtype=bool)
    for number, entry in enumerate(table.entries):
        assert snap.nearest(entry.labels, known, used) == number
        used[number] = True
        assert snap.nearest(entry.labels, known, used) == number, "the same recipe again is the same recipe"


def test_the_same_backbone_comes_first(make_table: MakeTable) -> None:
    table = make_table()
    snap = Snap(table.space.parameters, [entry.labels for entry in table.entries])
    known = np.ones(40, dtype=bool)
    labels = {**table.entries[5].labels, "backbone": "small", "head.dropout": 0.251}
    assert table.entries[snap.nearest(labels, known, ~known)].labels["backbone"] == "small"
    used = np.array([entry.labels["backbone"] == "small" for entry in table.entries])
    assert table.entries[snap.nearest(labels, known, used)].labels["backbone"] == "large"


def test_a_used_or_unknown_recipe_is_passed_over(make_table: MakeTable) -> None:
    table = make_table()
    snap = Snap(table.space.parameters, [entry.labels for entry in table.entries])
    known, used = np.ones(40, dtype=bool), np.zeros(40, dtype=bool)
    labels = {**table.entries[7].labels, "head.dropout": 0.2345}
    order = []
    for _ in range(3):
        order.append(snap.nearest(labels, known, used))
        used[order[-1]] = True
    assert len(set(order)) == 3
    known[order[0]] = False
    assert snap.nearest(labels, known, np.zeros(40, dtype=bool)) == order[1]
