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
    """What the watchdog needs of Ray Tune's trial."""

    __hash__ = object.__hash__  # type: ignore[assignment]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Workers that were killed."""
    killed: list[str] = []
    monkeypatch.setattr("ray.kill", killed.append)
    return killed


def make_trial(ledger: Ledger) -> Any:
    name = ledger.propose({}, Recipe()).name
    return Trial(config={"trial": name}, max_failures=2, temporary_state=SimpleNamespace(ray_actor=f"worker of {name}"))


def test_only_what_runs_for_too_long_is_ended(
    run: RunFolder, killed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(run)
    watchdog = TrialTimeout(ledger, 60)
    now = time.monotonic()
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: now + clock.seconds)
    complete, dead, hangs, retried, young, _waits = (make_trial(ledger) for _ in range(6))
    for trial in (complete, dead, hangs, retried):
        watchdog.on_trial_start(0, [], trial)
    clock.seconds = 50
    watchdog.on_step_begin(0, [])
    assert killed == []
    watchdog.on_trial_complete(0, [], complete)
    watchdog.on_trial_error(0, [], dead)
    watchdog.on_trial_start(0, [], young)
    watchdog.on_trial_start(0, [], retried)  # on another worker; its time goes on
    clock.seconds = 61
    for _ in range(3):
        watchdog.on_step_begin(0, [])
    assert killed == ["worker of t0002", "worker of t0003"]
    assert ledger.records["t0002"].error == "not over after 60 s: ended by --trial-timeout"
    assert [t.max_failures for t in (hangs, retried, young)] == [0, 0, 2]
    assert {name for name, record in ledger.records.items() if record.error} == {"t0002", "t0003"}
