from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pasture.errors import InputError
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record, Status
from tune.records.plan import Plan
from tune.search.warm_start import read_earlier_trials, warm_start, write_earlier_trials

Report = Callable[..., dict[str, Any]]
Add = Callable[..., Record]


@pytest.fixture
def earlier(tmp_path: Path, space: Space) -> RunFolder:
    """An earlier run without trials."""
    earlier = RunFolder(tmp_path / "earlier")
    plan(space).write(earlier)
    return earlier


@pytest.fixture
def add(earlier: RunFolder, space: Space, report: Report) -> Add:
    """`add(score, status="COMPLETE", **fields)`: a trial of the earlier run; `__` stands for a dot."""
    ledger = Ledger(earlier)

    def add(score: float, status: Status = "COMPLETE", **fields: Any) -> Record:
        overrides = {key.replace("__", "."): value for key, value in fields.items()}
        drawn = {"optimizer.head_lr": 0.01, "head.dropout": 0.2, "loss.lds.enabled": False, "target.transform": "none"}
        record = ledger.propose({}, space.base.with_overrides(drawn | overrides))
        record.status = status
        record.curve = [report(1, score / 2), report(2, score)]
        ledger.write(record)
        return record

    return add


def plan(space: Space, **changes: Any) -> Plan:
    content = {"data": "data", "space": space.to_dict(), "search": "optuna", "seed": 0, "fingerprint": "f"}
    return Plan(**{**content, "versions": {}, "trials": 20, **changes})


def dropouts(space: Space) -> list[float]:
    return [recipe.head.dropout for _, recipe in space.starts()]


def test_the_best_recipes_run_first_then_the_spaces_own(space: Space, earlier: RunFolder, add: Add) -> None:
    for i, score in enumerate((0.3, 0.1, 0.7, 0.2, 0.6, 0.4, 0.5)):
        add(score, head__dropout=0.05 * i)
    add(0.9, "PRUNED", head__dropout=0.45)
    own = dropouts(space)
    assert dropouts(warm_start(space, earlier)) == pytest.approx([0.1, 0.2, 0.3, 0.25, 0.0, *own])
    assert dropouts(warm_start(space, earlier, keep_start=False)) == pytest.approx([0.1, 0.2, 0.3, 0.25, 0.0])


def test_of_equal_recipes_one_runs(space: Space, earlier: RunFolder, add: Add) -> None:
    for seed, score in enumerate((0.3, 0.1, 0.7)):
        add(score, seed=seed)
    assert len(warm_start(space, earlier, keep_start=False).starts()) == 1


def test_fields_outside_the_space_keep_the_values_of_its_base(space: Space, earlier: RunFolder, add: Add) -> None:
    add(0.5, head__dropout=0.3, optimizer__head_lr=0.5, head__hidden=[64, 64], schedule__epochs=50)
    ((labels, recipe),) = warm_start(space, earlier, keep_start=False).starts()
    assert labels["head.dropout"] == 0.3
    assert recipe.optimizer.head_lr == space.base.optimizer.head_lr  # .5 is out of range
    assert (recipe.head.hidden, recipe.schedule.epochs) == (space.base.head.hidden, space.base.schedule.epochs)


def test_labels_that_make_no_recipe_are_left_out(space: Space, earlier: RunFolder, add: Add) -> None:
    add(0.5)
    broken = add(0.9)
    broken.recipe["head"] = {"no such field": 1}
    Ledger(earlier).write(broken)
    assert len(warm_start(space, earlier, keep_start=False).starts()) == 1


@pytest.mark.parametrize(
    ("status", "search", "message"),
    [
        ("PRUNED", {"head.dropout": {"uniform": [0.0, 0.5]}}, "no trial of this run is complete"),
        ("COMPLETE", {"head.dropout": {"uniform": [0.8, 0.9]}}, "none of its recipes has a value that lies in this"),
    ],
)
def test_nothing_to_start_from_is_refused(
    space: Space, earlier: RunFolder, add: Add, status: Status, search: dict[str, Any], message: str
) -> None:
    add(0.5, status)
    with pytest.raises(InputError, match=f"--warm-start .*earlier: {message}"):
        warm_start(Space.parse({"base": space.base.to_dict(), "search": search}), earlier)


def test_a_folder_that_is_no_run_is_refused(space: Space, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        warm_start(space, RunFolder(tmp_path / "nothing"))


def test_optuna_learns_from_trials_of_the_same_recipes_and_data(
    run: RunFolder, space: Space, earlier: RunFolder, add: Add
) -> None:
    for i in range(7):
        add(0.1 * i, head__dropout=0.05 * i)
    add(0.05, "PRUNED", head__dropout=0.45)
    add(0.05, "FAILED", head__dropout=0.46)
    add(0.05, head__dropout=0.47, schedule__epochs=50)  # not searched, and other than the base
    write_earlier_trials(run, plan(warm_start(space, earlier)), earlier)
    trials = read_earlier_trials(run)
    assert [t.params["head.dropout"] for t in trials] == pytest.approx([0.0, 0.05, 0.45])  # the best 5 run again
    assert [(t.status, t.score) for t in trials] == [("COMPLETE", 0.0), ("COMPLETE", 0.1), ("PRUNED", 0.05)]
    assert [report["epoch"] for report in trials[0].curve] == [1, 2]


@pytest.mark.parametrize("change", [{"fingerprint": "g"}, {"outer": ("2015-09-01",)}])
def test_scores_on_other_data_are_not_compared(
    run: RunFolder, space: Space, earlier: RunFolder, add: Add, change: dict[str, Any]
) -> None:
    for i in range(7):
        add(0.1 * i, head__dropout=0.05 * i)
    started = warm_start(space, earlier)
    assert len(started.starts()) > 5
    write_earlier_trials(run, plan(started, **change), earlier)
    assert read_earlier_trials(run) == []


def test_a_damaged_file_is_named(run: RunFolder, space: Space, earlier: RunFolder, add: Add) -> None:
    add(0.5)
    write_earlier_trials(run, plan(space), earlier)
    content = run.folder.read("earlier_trials.json")
    run.folder.write("earlier_trials.json", content.replace(b"0.5", b"0.6"))
    with pytest.raises(InputError, match=r"earlier_trials\.json: damaged"):
        read_earlier_trials(run)


def test_start_entries_survive_the_plan(space: Space, earlier: RunFolder, add: Add) -> None:
    add(0.5, head__dropout=0.3)
    started = warm_start(space, earlier)
    again = Space.parse(plan(started).space)
    assert again.starts() == started.starts()
    assert all(isinstance(recipe, Recipe) for _, recipe in again.starts())
