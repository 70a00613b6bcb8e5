from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DRIVER = """
import sys, time
from types import SimpleNamespace
import ray
from pasture.run_folder import RunFolder
from tune.cluster import ray_health

def nodes():
    ray.nodes = lambda: time.sleep(60)  # as Ray's calls do once the head is gone
    host, _, port = sys.argv[2].rpartition(":")
    here = {"NodeID": "here", "NodeManagerAddress": host, "NodeManagerPort": int(port)}
    return [{**here, "NodeID": "there", "NodeManagerPort": 1}, here]

ray_health.CHECK_SECONDS = 0.05
ray.get_runtime_context = lambda: SimpleNamespace(gcs_address=sys.argv[1], get_node_id=lambda: "here")
ray.nodes = nodes
with ray_health.watch_ray(RunFolder("/runs/night"), ray_health.end_process):
    time.sleep(float(sys.argv[3]))
print("over")
"""


def drive(head: str, raylet: str, seconds: float) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", DRIVER, head, raylet, str(seconds)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[3])


@pytest.fixture
def listening() -> Iterator[str]:
    """HOST:PORT at which something listens."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """HOST:PORT at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.heavy
def test_a_head_that_no_longer_answers_ends_the_process_with_one_line(listening: str, closed: str) -> None:
    ended = drive(closed, listening, 60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"forage: the head of Ray ({closed}) no longer answers; go on with: forage resume /runs/night\n"
    )


@pytest.mark.heavy
def test_a_dead_raylet_on_the_node_of_the_driver_ends_the_process_too(listening: str, closed: str) -> None:
    ended = drive(listening, closed, 60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "(raylet) has died; go on with: forage resume /runs/night\n" in ended.stderr


@pytest.mark.heavy
@pytest.mark.parametrize("seconds", [0, 2])
def test_a_living_head_ends_nothing(listening: str, seconds: float) -> None:
    ended = drive(listening, listening, seconds)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "over\n", "")
