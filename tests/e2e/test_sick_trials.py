"""A worker that hangs, as a real process. Slow: a session of Ray.

Workers that are killed are in test_disasters.py, and a trial that goes on from its checkpoint in test_cluster.py.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EPOCHS = 30  # a few seconds: long enough to be seen under way, and shorter than the limit
TIMEOUT = 15


@dataclass
class Journey:
    """A sweep of three trials, the second of which hangs.

    Attributes:
        run: the run directory.
        records: at the end.
        said: on standard error.
        result: what it printed.
        tokens: the mode of authentication of the raylet.
    """

    run: Path
    records: dict[str, dict[str, Any]]
    said: str
    result: dict[str, Any]
    tokens: list[str | None]


@pytest.fixture(scope="module")
def journey(
    start: Callable[..., Any],
    data: Path,
    space_file: Path,
    records: Callable[[Path], dict[str, dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    run = tmp_path_factory.mktemp("runs") / "sick"
    words = ["--space", space_file, "--epochs", EPOCHS, "--trials", 3, "--cpus-per-trial", os.cpu_count(), "--json"]
    where = ["--runs", run.parent, "--name", run.name]
    process = start("sweep", data, *where, *words, "--pruner", "none", "--trial-timeout", TIMEOUT)
    deadline = time.monotonic() + 120
    while not records(run).get("t0001", {}).get("curve"):
        assert process.popen.poll() is None, process.popen.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tokens = process.tokens()
    for worker in process.workers():
        os.kill(worker, signal.SIGSTOP)  # deaf to everything but kill -9
    assert process.wait() == 0, process.err
    return Journey(run, records(run), process.err, json.loads(process.out), tokens)


def test_a_trial_that_hangs_has_failed_and_the_sweep_goes_on(journey: Journey) -> None:
    hung = journey.records["t0001"]
    reason = f"not over {TIMEOUT} s after its first epoch: ended by --trial-timeout"
    assert (hung["status"], hung["error"]) == ("FAILED", reason)
    assert 0 < len(hung["curve"]) < EPOCHS
    assert (journey.result["complete"], journey.result["failed"], journey.result["running"]) == (2, 1, 0)
    assert "t0001  failed" in journey.said
    assert "Traceback" not in journey.said
    assert list((journey.run / "checkpoints").glob("*")) == []


def test_a_ray_that_forage_starts_asks_for_a_token(journey: Journey) -> None:
    assert journey.tokens == ["token"]
