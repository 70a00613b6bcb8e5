"""A sweep launched from a Python program, as in a notebook. Slow: a session of Ray that is killed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from benchmarks.harness import BASE
from benchmarks.trivial import TrivialTrial
from pasture.errors import JobError
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from tune.cluster import ray_health
from tune.records.plan import Limits
from tune.sweep import launch

data, run = sys.argv[1:]
ray_health.CHECK_SECONDS = 1  # not less: a head that dies within a check is noticed a minute later

class SlowTrial(TrivialTrial):
    def step(self):
        time.sleep(0.2)
        return super().step()

def kill_head(record):
    if len(record.curve) == 2:
        heads = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "gcs_server"], capture_output=True, text=True)
        for head in heads.stdout.split():
            os.kill(int(head), signal.SIGKILL)
            print("killed")

space = Space.parse({"base": BASE | {"schedule": {"epochs": 1000}}})
try:
    launch(RunFolder(run), Path(data), space, Limits(trials=1), trainable=SlowTrial, watch=kill_head)
except JobError as error:
    print(error)
print("alive")
"""


def test_a_dead_ray_raises_an_error_and_leaves_the_program_alive(
    program: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[2])
    process = program(sys.executable, "-c", PROGRAM, data, tmp_path / "run", PYTHONPATH=root)
    assert process.wait(300) == 0, process.err
    assert "Traceback" not in process.err
    # The session has sent standard output to standard error while the head was killed.
    assert "killed" in process.err
    error, alive = process.out.splitlines()
    assert "the head of Ray" in error
    assert f"no longer answers; go on with: forage resume {tmp_path}/run" in error
    assert alive == "alive"
