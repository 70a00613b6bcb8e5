from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.cluster.trial_timeout import TrialTimeout
from tune.records.ledger import Ledger


class Trial(SimpleNamespace):
    """What the callback needs of Ray Tune's trial."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Workers that were killed."""
    killed: list[str] = []
    monkeypatch.setattr("ray.kill", killed.append)
    return killed


def make_trial(ledger: Ledger) -> Any:
    name = ledger.propose({}, Recipe()).name
    return Trial(config={"trial": name}, max_failures=2, temporary_state=SimpleNamespace(ray_actor=f"worker of {name}"))


def test_only_trials_that_train_for_too_long_are_ended(run: RunFolder, killed: list[str], clock: Clock) -> None:
    ledger = Ledger(run)
    timeout = TrialTimeout(ledger, 60)
    complete, dead, hangs, retried, young, _waits = (make_trial(ledger) for _ in range(6))
    for trial in (complete, dead, hangs, retried):
        timeout.on_trial_start(0, [], trial)
        timeout.on_trial_result(0, [], trial, {})
    clock.seconds += 50
    timeout.on_step_begin(0, [])
    assert killed == []
    timeout.on_trial_complete(0, [], complete)
    timeout.on_trial_error(0, [], dead)
    for trial in (young, retried):  # `retried` has another worker; its time continues
        timeout.on_trial_start(0, [], trial)
        timeout.on_trial_result(0, [], trial, {})
    clock.seconds += 11
    for _ in range(3):
        timeout.on_step_begin(0, [])
    assert killed == ["worker of t0002", "worker of t0003"]
    assert ledger.records["t0002"].error == "not over 60 s after its first epoch: ended by --trial-timeout"
    assert [t.max_failures for t in (hangs, retried, young)] == [0, 0, 2]
    assert {name for name, record in ledger.records.items() if record.error} == {"t0002", "t0003"}


def test_features_on_a_cold_cache_do_not_count(run: RunFolder, killed: list[str], clock: Clock) -> None:
    ledger = Ledger(run)
    timeout = TrialTimeout(ledger, 60)
    trial = make_trial(ledger)
    timeout.on_trial_start(0, [], trial)
    clock.seconds += 3000
    timeout.on_step_begin(0, [])
    timeout.on_trial_start(0, [], trial)  # a worker has died; another one may take as long
    clock.seconds += 3000
    timeout.on_step_begin(0, [])
    timeout.on_trial_result(0, [], trial, {})
    clock.seconds += 59
    timeout.on_trial_result(0, [], trial, {})
    timeout.on_step_begin(0, [])
    assert killed == []
    clock.seconds += 2
    timeout.on_step_begin(0, [])
    assert killed == ["worker of t0000"]


@pytest.mark.parametrize(("seconds", "limit"), [(60, 3600), (600, 6000)])
def test_a_trial_that_hangs_before_its_first_report_is_ended_too(
    run: RunFolder, killed: list[str], clock: Clock, seconds: float, limit: float
) -> None:
    ledger = Ledger(run)
    timeout = TrialTimeout(ledger, seconds)
    trial = make_trial(ledger)
    timeout.on_trial_start(0, [], trial)
    clock.seconds += limit
    timeout.on_step_begin(0, [])
    assert killed == []
    clock.seconds += 1
    timeout.on_step_begin(0, [])
    assert killed == ["worker of t0000"]
    assert ledger.records["t0000"].error == f"no first epoch after {limit} s: ended by --trial-timeout"
