"""A worker that is killed and a worker that hangs, as real processes. Slow: two sessions of Ray."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from pasture.checksum import remove_checksum
from pasture.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EPOCHS = 120
TIMEOUT = 8


@dataclass
class Journey:
    """The worker of t0000 is killed once it has a checkpoint; then the sweep is extended, and t0001's worker hangs.

    Attributes:
        checkpointed: epochs of t0000 that were in its checkpoint.
        before: t0000 as it was known when its worker was killed.
        last: the records at the end.
        said: on standard error, session by session.
        result: what the second session printed.
        tokens: the mode of authentication of the raylet.
    """

    run: Path
    checkpointed: int
    before: dict[str, Any]
    last: dict[str, dict[str, Any]]
    said: list[str]
    result: dict[str, Any]
    tokens: list[str | None]


def wait_for(condition: Callable[[], Any], process: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.popen.poll() is None, process.popen.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def journey(
    start: Callable[..., Any],
    data: Path,
    space_file: Path,
    records: Callable[[Path], dict[str, dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    run = tmp_path_factory.mktemp("runs") / "sick"
    checkpoint = run / "checkpoints" / "t0000.pt"
    words = ["--space", space_file, "--epochs", EPOCHS, "--trials", 1, "--cpus-per-trial", os.cpu_count()]
    process = start("sweep", data, "--runs", run.parent, "--name", run.name, *words)
    wait_for(checkpoint.exists, process)
    tokens = process.tokens()
    for worker in process.workers():
        os.kill(worker, signal.SIGKILL)
    state = torch.load(io.BytesIO(remove_checksum(checkpoint.read_bytes())), weights_only=True)
    # The driver writes reports in groups. Another worker takes longer to start.
    wait_for(lambda: len(records(run)["t0000"]["curve"]) >= len(state["curve"]) - 1, process)
    before = records(run)["t0000"]
    assert process.wait() == 0, process.err
    said = [process.err]

    process = start("resume", run, "--trials", 2, "--trial-timeout", TIMEOUT, "--json")
    wait_for(lambda: records(run).get("t0001", {}).get("curve"), process)
    for worker in process.workers():
        os.kill(worker, signal.SIGSTOP)  # deaf to everything but kill -9
    assert process.wait() == 0, process.err
    said.append(process.err)
    return Journey(run, len(state["curve"]), before, records(run), said, json.loads(process.out), tokens)


def test_a_killed_worker_is_replaced_and_its_trial_goes_on_from_the_checkpoint(journey: Journey) -> None:
    last = journey.last["t0000"]
    assert (last["status"], last["error"]) == ("COMPLETE", "")
    assert [report["epoch"] for report in last["curve"]] == list(range(1, EPOCHS + 1))
    assert 0 < journey.checkpointed < EPOCHS
    # With `seconds` of every epoch: one that was trained again could not have the same. The driver may not have heard
    # of the last one that is in the checkpoint.
    known = min(journey.checkpointed, len(journey.before["curve"]))
    assert known >= journey.checkpointed - 1
    assert last["curve"][:known] == journey.before["curve"][:known]
    assert last["curve"] == RunFolder(journey.run).read_oof("t0000").metadata["curve"]
    assert "Traceback" not in journey.said[0]


def test_a_trial_that_hangs_has_failed_and_the_sweep_goes_on(journey: Journey) -> None:
    hung = journey.last["t0001"]
    reason = f"not over {TIMEOUT} s after its first epoch: ended by --trial-timeout"
    assert (hung["status"], hung["error"]) == ("FAILED", reason)
    assert 0 < len(hung["curve"]) < EPOCHS
    assert (journey.result["complete"], journey.result["failed"], journey.result["running"]) == (1, 1, 0)
    assert "t0001  failed" in journey.said[1]
    assert "Traceback" not in journey.said[1]
    assert list((journey.run / "checkpoints").iterdir()) == []


def test_a_ray_that_forage_starts_asks_for_a_token(journey: Journey) -> None:
    assert journey.tokens == ["token"]
