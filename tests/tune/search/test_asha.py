from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler

from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger
from tune.search.asha import AshaScheduler, Rungs

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.mark.parametrize(
    ("epochs", "marks"),
    [(1, []), (2, [1]), (3, [1]), (4, [1, 2]), (6, [1, 2]), (9, [1, 3]), (10, [2, 4]), (30, [4, 10]), (81, [9, 27])],
)
def test_rungs_lie_at_a_ninth_and_a_third(epochs: int, marks: list[int]) -> None:
    assert list(Rungs(epochs).scores) == marks


def test_a_hand_worked_example() -> None:
    rungs = Rungs(9)
    # Cutoff: the 2/3 quantile, between neighbours linear, of those noted before.
    assert rungs.record("a", 1, 0.50)  # first: no cutoff
    assert not rungs.record("b", 1, 0.40)  # of (.50): .50
    assert rungs.record("c", 1, 0.60)  # of (.40 .50): .4667
    assert not rungs.record("d", 1, 0.52)  # of (.40 .50 .60): .5333
    assert rungs.record("e", 1, 0.56)  # of (.40 .50 .52 .60): .52
    assert rungs.record("c", 2, -9.0)  # no rung
    assert rungs.record("c", 3, -1.0)  # the first at this one
    assert rungs.record("a", 3, -1.0)  # as good as the cutoff
    assert not rungs.record("e", 3, -1.1)
    assert rungs.scores == {1: {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.52, "e": 0.56}, 3: {"c": -1, "a": -1, "e": -1.1}}


def test_no_fewer_pass_than_are_to_be_promoted() -> None:
    rungs = Rungs(9, least=3)
    passed = [rungs.record(f"t{i}", 1, score) for i, score in enumerate((0.9, 0.5, 0.1, 0.1, 0.5, 0.4, 0.5, 0.8))]
    assert passed == [True, True, True, True, True, False, True, True]
    assert [Rungs(9).record("a", 1, 0.9), *(rungs.record(f"u{i}", 3, -i) for i in range(4))] == [True] * 4 + [False]


def test_a_trial_waits_at_the_cut_whatever_its_score(run: RunFolder) -> None:
    scheduler = AshaScheduler(9, Ledger(run), 3)
    for name, score in (("a", 0.5), ("b", 0.1)):
        assert scheduler.on_trial_result(None, trial(name), flat(3, score)) == scheduler.STOP
        assert scheduler.outcome(name, flat(3, score)) == "WAITING"
    assert scheduler.outcome("a", {**flat(3, 0.5), "finished": True}) == "COMPLETE"
    assert scheduler.outcome("a", {"error": "nan"}) == "FAILED"
    assert scheduler.on_trial_result(None, trial("c"), flat(1, 0.5)) == scheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial("d"), flat(1, 0.4)) == scheduler.STOP
    assert scheduler.outcome("d", flat(1, 0.4)) == "PRUNED"
    assert scheduler.on_trial_result(None, trial("a"), flat(4, 0.5)) == scheduler.CONTINUE


def test_a_trial_is_judged_once_at_a_rung() -> None:
    rungs = Rungs(9)
    rungs.record("a", 1, 0.5)
    assert not rungs.record("b", 1, 0.1)
    assert rungs.record("b", 1, 0.05)
    assert rungs.scores[1] == {"a": 0.5, "b": 0.1}


@pytest.mark.parametrize("seed", range(10))
def test_decisions_agree_with_rays_bracket(seed: int) -> None:
    rng = np.random.default_rng(seed)
    theirs = ASHAScheduler(metric="score", mode="max", max_t=9, grace_period=1, reduction_factor=3)._brackets[0]
    ours = Rungs(9)
    assert {mark for mark, _ in theirs._rungs} - {9} == set(ours.scores)
    waiting, running, stopped = [f"t{i}" for i in range(60)], dict[str, int](), 0
    while waiting or running:
        if waiting and len(running) < 4:
            running[waiting.pop()] = 0
        name = str(rng.choice(list(running)))
        running[name] += 1
        epoch, score = running[name], float(rng.normal())
        if epoch == 9:
            del running[name]
            continue
        go_on = ours.record(name, epoch, score)
        assert go_on == (theirs.on_result(SimpleNamespace(trial_id=name), epoch, score) != "STOP")
        if not go_on:
            stopped += 1
            del running[name]
    assert stopped > 20
    assert {mark: rung for mark, rung in theirs._rungs if mark != 9} == ours.scores


def trial(name: str) -> Any:
    return SimpleNamespace(config={"trial": name})


def flat(epoch: int, score: float) -> dict[str, Any]:
    return {"epoch": epoch, "score": score}


def test_outcomes(run: RunFolder) -> None:
    scheduler = AshaScheduler(9, Ledger(run))
    assert scheduler.on_trial_result(None, trial("a"), flat(1, 0.5)) == scheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial("b"), flat(1, 0.1)) == scheduler.STOP
    assert scheduler.on_trial_result(None, trial("c"), {"error": "nan"}) == scheduler.CONTINUE
    assert scheduler.outcome("a", {"finished": True}) == "COMPLETE"
    assert scheduler.outcome("b", {"finished": False}) == "PRUNED"
    assert scheduler.outcome("c", {"error": "nan"}) == "FAILED"
    assert scheduler.outcome("d", {}) == "FAILED"


@pytest.mark.parametrize("search", ["optuna", "random"])
def test_rungs_rebuilt_from_the_ledger_equal_the_original(
    search: str, run: RunFolder, drive: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AshaScheduler] = []
    init = AshaScheduler.__init__

    def remember(self: AshaScheduler, *args: Any) -> None:
        made.append(self)
        init(self, *args)

    monkeypatch.setattr(AshaScheduler, "__init__", remember)
    drive(run, trials=20, search=search)
    original, rebuilt = made[0].rungs, AshaScheduler(9, Ledger(run)).rungs
    assert len(original.scores[1]) > len(original.scores[3]) > 0
    assert rebuilt.scores == original.scores


def test_a_short_trial_that_ends_at_a_rung_counts_there_before_and_after_a_restart(
    run: RunFolder, report: Callable[..., Any]
) -> None:
    ledger = Ledger(run)
    scheduler = AshaScheduler(9, ledger)
    record = ledger.propose({}, None)
    record.curve = [report(epoch, 0.1 * epoch) for epoch in (1, 2, 3)]
    for epoch in (1, 2):
        scheduler.on_trial_result(None, trial(record.name), flat(epoch, 0.1 * epoch))
    scheduler.on_trial_complete(None, trial(record.name), flat(3, 0.1 * 3))
    scheduler.on_trial_complete(None, trial("t0009"), {"error": "nan"})
    assert AshaScheduler(9, ledger).rungs.scores == scheduler.rungs.scores
