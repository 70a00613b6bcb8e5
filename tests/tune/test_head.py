from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import sys, time
from types import SimpleNamespace
import ray
from pasture.run_folder import RunFolder
from tune import head

head.KNOCK_SECONDS = 0.05
ray.get_runtime_context = lambda: SimpleNamespace(gcs_address=sys.argv[1])
with head.watched_head(RunFolder("/runs/night")):
    time.sleep(float(sys.argv[2]))
print("over")
"""


def drive(address: str, seconds: float) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", DRIVER, address, str(seconds)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])


def test_a_head_that_answers_no_more_ends_the_process_with_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    ended = drive(address, 60)
    assert (ended.returncode, ended.stdout) == (1, "")
    line = f"forage: the head of the Ray cluster ({address}) answers no more; on another cluster, go on with: "
    assert ended.stderr == f"{line}forage resume /runs/night\n"


@pytest.mark.parametrize("seconds", [0, 2])
def test_a_head_that_is_there_is_left_in_peace(seconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        ended = drive(f"127.0.0.1:{server.getsockname()[1]}", seconds)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "over\n", "")
