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
from tune.cluster import ray_health

ray_health.CHECK_SECONDS = 0.05
ray.get_runtime_context = lambda: SimpleNamespace(gcs_address=sys.argv[1], get_node_id=lambda: "here")
ray.nodes = lambda: [{"NodeID": "there", "Alive": True}, {"NodeID": "here", "Alive": sys.argv[3] == "alive"}]
with ray_health.watch_ray(RunFolder("/runs/night"), ray_health.end_process):
    time.sleep(float(sys.argv[2]))
print("over")
"""


def drive(address: str, seconds: float, node: str = "alive") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", DRIVER, address, str(seconds), node]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[3])


def test_a_head_that_no_longer_answers_ends_the_process_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    ended = drive(address, 60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"forage: the head of Ray ({address}) no longer answers; go on with: forage resume /runs/night\n"
    )


def test_a_dead_node_of_the_driver_ends_the_process_too() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        ended = drive(f"127.0.0.1:{server.getsockname()[1]}", 60, "dead")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "(raylet) has died; go on with: forage resume /runs/night\n" in ended.stderr


@pytest.mark.parametrize("seconds", [0, 2])
def test_a_living_head_ends_nothing(seconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        ended = drive(f"127.0.0.1:{server.getsockname()[1]}", seconds)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "over\n", "")
