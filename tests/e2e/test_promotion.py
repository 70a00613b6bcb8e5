"""A sweep of two stages, killed in each and resumed, beside an undisturbed one. Slow: four sessions of Ray."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pasture.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRIALS, PROMOTED = 6, 3
EPOCHS, CUT = 6, 2
TIMED = {"seconds", "images_per_second"}
Ledgers = dict[str, dict[str, Any]]


@dataclass
class Journey:
    """What was seen on the way.

    Attributes:
        run, undisturbed: the run directories.
        ledgers: the records after each session of the first.
        checkpoints: names of the checkpoints after each.
        result: what the last printed.
    """

    run: Path
    undisturbed: Path
    ledgers: list[Ledgers] = field(default_factory=list)
    checkpoints: list[set[str]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


def in_the_first_stage(ledger: Ledgers) -> bool:
    """Some wait, and one is on its way to the cut."""
    waiting = [record for record in ledger.values() if record["status"] == "WAITING"]
    return len(waiting) >= 2 and any(r["status"] == "RUNNING" and len(r["curve"]) < CUT for r in ledger.values())


def in_the_second_stage(ledger: Ledgers) -> bool:
    """One has gone on, and others wait for their turn."""
    gone_on = [r for r in ledger.values() if r["status"] == "RUNNING" and len(r["curve"]) > CUT]
    return bool(gone_on) and any(record["status"] == "WAITING" for record in ledger.values())


@pytest.fixture(scope="module")
def journey(
    start: Callable[..., Any],
    data: Path,
    space_file: Path,
    records: Callable[[Path], Ledgers],
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    """kill -9 of driver and Ray in the first stage, and in the second; then to the end."""
    runs = tmp_path_factory.mktemp("runs")
    journey = Journey(runs / "killed", runs / "undisturbed")
    words = ["sweep", data, "--runs", runs, "--space", space_file, "--cpus-per-trial", os.cpu_count(), "--json"]
    words += ["--trials", TRIALS, "--promote", PROMOTED, "--no-start"]
    undisturbed = start(*words, "--name", "undisturbed")

    def session(words: list[object], seen: Callable[[Ledgers], bool] | None) -> Any:
        process = start(*words)
        deadline = time.monotonic() + 150
        while seen and process.popen.poll() is None and time.monotonic() < deadline:
            if seen(records(journey.run)):
                process.popen.kill()  # at once; what it has started follows
                process.kill()
                break
            time.sleep(0.02)
        process.wait()
        journey.ledgers.append(records(journey.run))
        journey.checkpoints.append({path.stem for path in journey.run.glob("checkpoints/*.pt")})
        return process

    session([*words, "--name", "killed"], in_the_first_stage)
    session(["resume", journey.run, "--json"], in_the_second_stage)
    last = session(["resume", journey.run, "--json"], None)
    assert last.popen.returncode == 0, last.err
    journey.result = json.loads(last.out)
    assert undisturbed.wait() == 0, undisturbed.err
    return journey


def with_status(ledger: Ledgers, *status: str) -> set[str]:
    return {name for name, record in ledger.items() if record["status"] in status}


def test_it_was_killed_in_each_stage(journey: Journey) -> None:
    first, second, _ = journey.ledgers  # a little later than when the kill was decided
    assert with_status(first, "WAITING")
    assert max(len(record["curve"]) for record in first.values()) <= CUT
    assert len(with_status(first, "WAITING", "PRUNED")) < TRIALS
    assert max(len(record["curve"]) for record in second.values()) > CUT
    assert len(with_status(second, "COMPLETE")) < PROMOTED
    assert len(second) == TRIALS


def test_the_best_at_the_cut_were_trained_to_the_end(journey: Journey) -> None:
    last = journey.ledgers[2]
    at_cut = sorted(
        (name for name, record in last.items() if len(record["curve"]) >= CUT),
        key=lambda name: (-last[name]["curve"][CUT - 1]["score"], name),
    )
    assert with_status(last, "COMPLETE") == set(at_cut[:PROMOTED])
    assert with_status(last, "PRUNED") == set(last) - set(at_cut[:PROMOTED])
    assert {len(last[name]["curve"]) for name in at_cut[:PROMOTED]} == {EPOCHS}
    assert {len(last[name]["curve"]) for name in at_cut[PROMOTED:]} == {CUT}
    assert len(at_cut) > PROMOTED
    assert (journey.result["complete"], journey.result["pruned"]) == (PROMOTED, TRIALS - PROMOTED)
    assert (journey.result["running"], journey.result["waiting"]) == (0, 0)


def test_who_waits_has_a_checkpoint_and_nobody_in_the_end(journey: Journey) -> None:
    for ledger, checkpoints in zip(journey.ledgers[:2], journey.checkpoints[:2], strict=True):
        waiting = with_status(ledger, "WAITING")
        assert waiting <= checkpoints
        assert len(waiting) <= PROMOTED
    assert journey.checkpoints[2] <= with_status(journey.ledgers[0], "PRUNED"), "killed before it was deleted"


@pytest.mark.parametrize("session", [0, 1])
def test_no_epoch_that_was_told_before_the_cut_was_trained_again(journey: Journey, session: int) -> None:
    before, last = journey.ledgers[session], journey.ledgers[2]
    for name in with_status(before, "WAITING", "PRUNED", "COMPLETE"):
        told = before[name]["curve"]
        assert last[name]["curve"][: len(told)] == told  # with `seconds`, which no second training could repeat
    for name in with_status(before, "RUNNING"):
        told = before[name]["curve"]
        if len(told) >= CUT:
            assert last[name]["curve"][:CUT] == told[:CUT]


def test_it_ends_equal_to_an_undisturbed_sweep_bit_for_bit(
    journey: Journey, records: Callable[[Path], Ledgers]
) -> None:
    def facts(ledger: Ledgers) -> dict[str, Any]:
        curve = {n: [{k: v for k, v in e.items() if k not in TIMED} for e in r["curve"]] for n, r in ledger.items()}
        return {n: (r["params"], r["recipe"], r["status"], curve[n]) for n, r in ledger.items()}

    assert facts(journey.ledgers[2]) == facts(records(journey.undisturbed))
    one, other = RunFolder(journey.run), RunFolder(journey.undisturbed)
    complete = {f"{name}.parquet" for name in with_status(journey.ledgers[2], "COMPLETE")}
    assert set(one.oof.names()) == set(other.oof.names()) == complete
    for name in with_status(journey.ledgers[2], "COMPLETE"):
        assert np.array_equal(one.read_oof(name).predictions, other.read_oof(name).predictions)
        epochs = one.read_epochs(name)
        assert epochs is not None
        assert len(epochs) == EPOCHS
