"""One sweep, stopped by SIGTERM, Ctrl-C and kill -9, resumed each time and extended. Slow: five sessions of Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pasture.run_folder import RunFolder
from tune.pruning.pruners import make_pruner
from tune.records.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRIALS = 7
FIRST_ASKED_FOR = 5
EPOCHS = 40  # a trial takes longer than the ledger takes to write a group of reports
Ledgers = dict[str, dict[str, Any]]
Records = Callable[[Path], Ledgers]


@dataclass
class Journey:
    """What was seen on the way.

    Attributes:
        run: the run directory.
        statuses: exit status of each session.
        errors: what each said on standard error.
        ledgers: the records after each.
        written: modification times of the OOF files and weights after each.
        result: what the last printed.
    """

    run: Path
    statuses: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    ledgers: list[Ledgers] = field(default_factory=list)
    written: list[dict[str, int]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


def ended(ledger: Ledgers) -> Ledgers:
    return {name: record for name, record in ledger.items() if record["status"] in ("COMPLETE", "PRUNED", "FAILED")}


def facts(ledger: Ledgers) -> dict[str, Any]:
    """What must not depend on how often a sweep was stopped."""
    timed = {"seconds", "images_per_second"}
    return {
        name: (
            record["params"],
            record["recipe"],
            record["status"],
            [{k: v for k, v in report.items() if k not in timed} for report in record["curve"]],
        )
        for name, record in ledger.items()
    }


@pytest.fixture(scope="module")
def options(data: Path, space_file: Path) -> Callable[..., list[object]]:
    """`options(run, trials)`: words that start the sweep."""
    words: list[object] = ["--space", space_file, "--epochs", EPOCHS, "--cpus-per-trial", os.cpu_count(), "--json"]
    return lambda run, trials: ["sweep", data, "--runs", run.parent, "--name", run.name, *words, "--trials", trials]


@pytest.fixture(scope="module")
def journey(
    start: Callable[..., Any],
    options: Callable[..., list[object]],
    records: Records,
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    """The whole journey: three interruptions, after the first of which the end is put further off; then to the end."""
    run = tmp_path_factory.mktemp("runs") / "stopped"
    journey = Journey(run)

    def session(words: list[object], enough: int, stop: Callable[[Any], None] | None) -> None:
        # At least one trial ends in each session: the ledger of the session before must not pass for this one's.
        enough = max(enough, len(ended(journey.ledgers[-1])) + 1 if journey.ledgers else 0)
        process = start(*words)
        deadline = time.monotonic() + 150
        # Stop in the middle of a trial, not between two.
        while stop and process.popen.poll() is None and time.monotonic() < deadline:
            ledger = records(run)
            under_way = any(record["status"] == "RUNNING" and record["curve"] for record in ledger.values())
            if len(ended(ledger)) >= enough and under_way:
                stop(process)
                break
            time.sleep(0.01)
        journey.statuses.append(process.wait())
        journey.errors.append(process.err)
        journey.ledgers.append(records(run))
        files = [*run.glob("oof/*"), *run.glob("weights/*/*"), *run.glob("epochs/*")]
        journey.written.append({str(path.relative_to(run)): path.stat().st_mtime_ns for path in files})
        if process.out:
            journey.result = json.loads(process.out)

    resume: list[object] = ["resume", run, "--json"]
    session(options(run, FIRST_ASKED_FOR), 2, lambda p: p.popen.send_signal(signal.SIGTERM))
    # Ctrl-C reaches the whole group.
    session([*resume, "--trials", TRIALS], 3, lambda p: os.killpg(p.popen.pid, signal.SIGINT))
    session(resume, 4, lambda p: p.kill())
    session(resume, TRIALS, None)
    return journey


@pytest.mark.parametrize("session", [0, 1], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_the_session_gracefully(journey: Journey, session: int) -> None:
    assert journey.statuses[session] == 130, journey.errors[session]
    assert f"stopped; resume with: forage resume {journey.run}" in journey.errors[session]
    assert "Traceback" not in journey.errors[session]
    assert len(ended(journey.ledgers[session])) < (FIRST_ASKED_FOR, TRIALS)[session]
    assert not any(record["status"] == "FAILED" for record in journey.ledgers[session].values())


def test_kill_9_leaves_a_sweep_in_the_middle(journey: Journey) -> None:
    assert journey.statuses[2] == -signal.SIGKILL
    assert 4 <= len(ended(journey.ledgers[2])) < TRIALS


def test_it_comes_to_the_end_asked_for(journey: Journey) -> None:
    assert journey.statuses[3] == 0, journey.errors[3]
    last = journey.ledgers[3]
    assert list(last) == [f"t{i:04d}" for i in range(TRIALS)]
    assert len(ended(last)) == TRIALS
    assert {record["number"] for record in last.values()} == set(range(TRIALS))
    assert journey.result["complete"] + journey.result["pruned"] == TRIALS
    assert (journey.result["failed"], journey.result["running"]) == (0, 0)
    assert len(pd.read_parquet(journey.run / "trials.parquet")) == TRIALS
    assert list((journey.run / "checkpoints").glob("*.pt")) == []


@pytest.mark.parametrize("session", [0, 1, 2])
def test_no_ended_trial_ran_again(journey: Journey, session: int) -> None:
    before = ended(journey.ledgers[session])
    assert before
    # With `seconds` of every epoch: a trial that ran again could not have the same.
    assert {name: journey.ledgers[3][name] for name in before} == before
    complete = {name for name, record in before.items() if record["status"] == "COMPLETE"}
    files = {f: t for f, t in journey.written[session].items() if Path(f).parts[1].split(".")[0] in complete}
    assert {f: journey.written[3][f] for f in files} == files


@pytest.mark.parametrize("session", [0, 1, 2])
def test_unfinished_trials_went_on_with_the_same_recipe(journey: Journey, session: int) -> None:
    before = journey.ledgers[session]
    unfinished = set(before) - set(ended(before))
    assert unfinished
    for name in unfinished:
        assert journey.ledgers[3][name]["recipe"] == before[name]["recipe"]
        assert journey.ledgers[3][name]["params"] == before[name]["params"]


def test_every_oof_is_whole_for_exactly_the_complete_trials(journey: Journey) -> None:
    run = RunFolder(journey.run)
    last = journey.ledgers[3]
    complete = {name for name, record in last.items() if record["status"] == "COMPLETE"}
    assert {path.name for path in (journey.run / "oof").iterdir()} == {f"{name}.parquet" for name in complete}
    for name in complete:
        table = run.read_oof(name)
        assert table.predictions.shape == (24, 8, 5)
        assert table.metadata["score"] == last[name]["curve"][-1]["score"]
        assert [report["epoch"] for report in last[name]["curve"]] == list(range(1, EPOCHS + 1))
        epochs = run.read_epochs(name)
        assert epochs is not None
        assert len(epochs) == EPOCHS


def test_a_proposal_that_waits_for_a_place_does_not_run(journey: Journey) -> None:
    for ledger in journey.ledgers[:3]:
        assert [record["status"] for record in ledger.values()].count("RUNNING") <= 1


def test_pruning_follows_from_the_curves(journey: Journey) -> None:
    pruner = make_pruner(Plan.read(RunFolder(journey.run)).pruner, EPOCHS)
    for name, record in journey.ledgers[3].items():
        verdicts = [pruner.judge(name, report, record["origin"] == "search") for report in record["curve"]]
        assert all(verdicts[:-1])
        assert record["status"] == ("COMPLETE" if verdicts[-1] else "PRUNED")


def test_the_disturbed_sweep_equals_an_undisturbed_one_bit_for_bit(
    journey: Journey,
    options: Callable[..., list[object]],
    forage: Callable[..., subprocess.CompletedProcess[str]],
    records: Records,
) -> None:
    run = journey.run.with_name("undisturbed")
    said = forage(*options(run, TRIALS))
    assert said.returncode == 0, said.stderr
    assert facts(records(run)) == facts(journey.ledgers[3])
    assert json.loads(said.stdout)["best_score"] == journey.result["best_score"]


def test_resuming_a_finished_sweep_does_nothing(
    journey: Journey, forage: Callable[..., subprocess.CompletedProcess[str]], records: Records
) -> None:
    began = time.monotonic()
    said = forage("resume", journey.run, "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == journey.result
    assert records(journey.run) == journey.ledgers[3]
    assert time.monotonic() - began < 60
    assert not any(line.startswith("[") for line in said.stderr.splitlines())
