"""Which trials wait, continue and are pruned; whole sweeps of two stages, killed anywhere, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.pruning.promotion import Promotion
from tune.records.ledger import Ledger, Record, Status
from tune.records.retention import Retention
from tune.search.optuna_searcher import Start

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
EPOCHS = 9
CUT = 3
Report = Callable[..., dict[str, Any]]
Drive = Callable[..., Ledger]
Add = Callable[..., Record]


@pytest.fixture
def ledger(run: RunFolder) -> Ledger:
    return Ledger(run)


@pytest.fixture
def add(ledger: Ledger, report: Report) -> Add:
    """`add(status, *scores)`: a trial with a checkpoint; a score an epoch."""

    def add(status: Status, *scores: float) -> Record:
        record = ledger.propose({}, Recipe())
        record.status = status
        for epoch, score in enumerate(scores, 1):
            record.report(report(epoch, score))
        ledger.write(record)
        ledger.run.checkpoints.write(f"{record.name}.pt", b"state")
        return record

    return add


def promotion(ledger: Ledger, trials: int, count: int | None) -> Promotion:
    return Promotion(ledger, Retention(ledger.run, ledger, None), trials, count, EPOCHS)


def names(records: list[Record]) -> list[str]:
    return [record.name for record in records]


def outcomes(run: RunFolder) -> list[tuple[str, bool]]:
    """Status on disk of each trial, and whether its checkpoint is there."""
    return [(r.status, run.checkpoints.exists(f"{r.name}.pt")) for r in Ledger(run).records.values()]


@pytest.mark.parametrize(("epochs", "cut"), [(2, 1), (3, 1), (4, 2), (6, 2), (9, 3), (10, 4), (30, 10)])
def test_the_cut_lies_at_a_third(ledger: Ledger, epochs: int, cut: int) -> None:
    retention = Retention(ledger.run, ledger, None)
    assert Promotion(ledger, retention, 2, 1, epochs).cut == cut
    assert Promotion(ledger, retention, 2, None, epochs).cut is None


def test_the_best_at_the_cut_go_on_and_the_others_are_pruned(ledger: Ledger, add: Add) -> None:
    for score in (0.3, 0.5, 0.1, 0.4):
        add("WAITING", 0.0, 0.0, score)
    assert names(promotion(ledger, 4, 2).due()) == ["t0001", "t0003"]
    waits, pruned = ("WAITING", True), ("PRUNED", False)
    assert outcomes(ledger.run) == [pruned, waits, pruned, waits]


def test_of_equals_the_earlier_goes_on(ledger: Ledger, add: Add) -> None:
    for _ in range(3):
        add("WAITING", 0.0, 0.0, 0.5)
    assert names(promotion(ledger, 3, 2).due()) == ["t0000", "t0001"]


@pytest.mark.parametrize(
    ("status", "curve", "counts"),
    [
        ("COMPLETE", [0.5], True),  # a short one
        ("COMPLETE", [0.1, 0.3, 0.5, 0.9], True),
        ("COMPLETE", [0.1, 0.3, 0.3, 0.9], False),  # what it became later was not known of the others
        ("RUNNING", [0.1, 0.3, 0.5, 0.9], True),  # promoted before
        ("FAILED", [0.1, 0.3, 0.5, 0.9], True),
        ("FAILED", [0.1, 0.5], False),
        ("PRUNED", [0.5], False),  # by ASHA
        ("PRUNED", [0.1, 0.3, 0.5], False),
    ],
)
def test_what_takes_a_place_among_the_best(
    ledger: Ledger, add: Add, status: Status, curve: list[float], counts: bool
) -> None:
    add(status, *curve)
    add("WAITING", 0.0, 0.0, 0.4)
    assert names(promotion(ledger, 2, 1).prune_waiting()) == (["t0001"] if counts else [])


@pytest.mark.parametrize(
    ("status", "curve", "over"),
    [
        ("PENDING", [], False),
        ("RUNNING", [0.1, 0.2], False),
        ("RUNNING", [0.1, 0.2, 0.3], True),  # promoted: the driver has died in the second stage
        ("WAITING", [0.1, 0.2, 0.3], True),
        ("FAILED", [], True),
    ],
)
def test_nobody_goes_on_before_the_first_stage_is_over(
    ledger: Ledger, add: Add, status: Status, curve: list[float], over: bool
) -> None:
    add("WAITING", 0.0, 0.0, 0.4)
    add(status, *curve)
    assert ("t0000" in names(promotion(ledger, 2, 2).due())) is over
    assert promotion(ledger, 3, 2).due() == []  # one is to be proposed yet


def test_pruning_at_once_ends_as_judging_all_at_the_end(ledger: Ledger, add: Add) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, 40) / 10  # with ties
    stages = promotion(ledger, 40, 6)
    for score in scores:
        add("WAITING", 0.0, 0.0, float(score))
        stages.prune_waiting()
        assert len(ledger.run.checkpoints.names()) <= 6
    best = sorted(range(40), key=lambda i: (-scores[i], i))[:6]
    assert names(stages.due()) == [f"t{i:04d}" for i in sorted(best)]


def test_a_kill_while_the_others_are_pruned_changes_nothing(
    ledger: Ledger, add: Add, monkeypatch: pytest.MonkeyPatch, killed: type[BaseException]
) -> None:
    for score in (0.3, 0.5, 0.1, 0.2):
        add("WAITING", 0.0, 0.0, score)
    write = Ledger.write

    def die(self: Ledger, record: Record) -> None:
        write(self, record)
        raise killed

    monkeypatch.setattr(Ledger, "write", die)
    for _ in range(3):
        with pytest.raises(killed):
            promotion(Ledger(ledger.run), 4, 1).due()
    assert names(promotion(Ledger(ledger.run), 4, 1).due()) == ["t0001"]
    assert [status for status, _ in outcomes(ledger.run)] == ["PRUNED", "WAITING", "PRUNED", "PRUNED"]


def test_a_sweep_of_two_stages(run: RunFolder, drive: Drive) -> None:
    records = drive(run, 30, promote=3).records.values()
    assert {r.status for r in records} == {"COMPLETE", "PRUNED", "FAILED"}
    at_cut = sorted((r for r in records if len(r.curve) >= CUT), key=lambda r: -r.curve[CUT - 1]["score"])
    assert len(at_cut) > 3
    for record in at_cut[:3]:
        assert (record.status, len(record.curve)) == ("COMPLETE", EPOCHS)
    assert all((r.status, len(r.curve)) == ("PRUNED", CUT) for r in at_cut[3:])
    assert any(len(r.curve) == 1 for r in records), "ASHA prunes below the cut"


def test_start_trials_run_whole_beside_the_promoted_ones(run: RunFolder, drive: Drive, starts: list[Start]) -> None:
    records = list(drive(run, 30, promote=3, starts=starts).records.values())
    assert [(r.origin, r.status, len(r.curve)) for r in records[:3]] == [("start", "COMPLETE", EPOCHS)] * 3
    assert sum(r.status == "COMPLETE" for r in records[3:]) == 3


def test_a_start_trial_takes_no_place_among_the_promoted(ledger: Ledger, add: Add) -> None:
    add("COMPLETE", 0.0, 0.0, 0.9).origin = "start"
    add("FAILED", 0.0, 0.0, 0.8).origin = "start"
    add("WAITING", 0.0, 0.0, 0.1)
    add("WAITING", 0.0, 0.0, 0.2)
    assert names(promotion(ledger, 4, 1).due()) == ["t0003"]


def test_the_first_stage_is_not_over_while_a_start_trial_runs(ledger: Ledger, add: Add) -> None:
    add("WAITING", 0.0, 0.0, 0.4)
    add("RUNNING", 0.1, 0.2, 0.3, 0.4).origin = "start"
    assert promotion(ledger, 2, 1).due() == []


@pytest.mark.heavy
@pytest.mark.parametrize("search", ["optuna", "random"])
def test_killed_anywhere_it_ends_as_an_undisturbed_one(
    search: str,
    run: RunFolder,
    drive: Drive,
    facts: Callable[[Ledger], list[Record]],
    killed: type[BaseException],
) -> None:
    undisturbed = facts(drive(RunFolder(f"{run}-0"), 16, search, promote=3))
    assert sum(r.status == "COMPLETE" for r in undisturbed) == 3
    ends = 0
    for kill_after in range(1, 200, 17):
        disturbed = RunFolder(f"{run}-{kill_after}")
        try:
            drive(disturbed, 16, search, kill_after=kill_after, promote=3)
            break
        except killed:
            ends += 1
        assert facts(drive(disturbed, 16, search, promote=3)) == undisturbed, kill_after
    assert ends > 3


def test_killed_again_and_again(
    run: RunFolder, drive: Drive, facts: Callable[[Ledger], list[Record]], killed: type[BaseException]
) -> None:
    undisturbed = facts(drive(RunFolder(f"{run}-0"), 14, promote=3))
    for _ in range(100):
        try:
            ledger = drive(run, 14, kill_after=7, promote=3)
            break
        except killed:
            continue
    assert facts(ledger) == undisturbed


def test_more_trials_promote_only_those_among_the_best_of_all(
    run: RunFolder, drive: Drive, facts: Callable[[Ledger], list[Record]]
) -> None:
    before = facts(drive(run, 8, promote=3))
    after = facts(drive(run, 24, promote=3))
    assert after[:8] == before
    first_complete = [r for r in before if r.status == "COMPLETE"]
    assert len(first_complete) == 3
    later = [r for r in after[8:] if r.status == "COMPLETE"]
    assert later
    at_cut = sorted((r for r in after if len(r.curve) >= CUT), key=lambda r: (-r.curve[CUT - 1]["score"], r.number))
    assert set(names(later)) == set(names(at_cut[:3])) - set(names(first_complete))
