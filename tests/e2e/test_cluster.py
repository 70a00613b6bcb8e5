"""Three Ray nodes on one machine, with caches and a view of the disk of their own. Slow: a cluster and two sweeps.

The head computes nothing. `first` does not see the data folder (a mount of its own hides it), has a logical GPU and is
killed in the middle; `late` joins under way; `other` has another version of forage.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pasture.dataset import read_train, verify_pictures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("FORAGE_TEST_CLUSTER"),
        reason="its trials must outlast the joining of a node, which depends on the machine; set FORAGE_TEST_CLUSTER=1",
    ),
]

TRIALS = 3
EPOCHS = 200
RAY = Path(sys.executable).with_name("ray")
Records = Callable[[Path], dict[str, dict[str, Any]]]


def can_mount() -> bool:
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Machines:
    """Ray nodes, each a family of processes with a cache of its own; tokens are asked for."""

    def __init__(self, folder: Path, program: Callable[..., Any]) -> None:
        self.folder, self.program, self.started = folder, program, dict[str, Any]()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2}

    def start(self, name: str, *words: str, before: str = "true", **env: str) -> None:
        """Start a node and wait until it has joined; what `before` mounts, its processes alone see."""
        log = self.folder / f"{name}.log"
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats", "--block"]
        command = " ".join([str(RAY), "start", *words, *ports])
        own = {"FORAGE_CACHE": str(self.cache(name)), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        shell = ["unshare", "--mount", "sh", "-c", f"{before} && exec {command} >{log} 2>&1"]
        self.started[name] = self.program(*shell, **self.access, **own, **env)
        deadline = time.monotonic() + 120
        while not log.exists() or "--block" not in log.read_text():  # it says so once it has started
            assert self.started[name].popen.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def cache(self, name: str) -> Path:
        return self.folder / f"cache-{name}"


@pytest.fixture(scope="module")
def machines(program: Callable[..., Any]) -> Iterator[Machines]:
    if not can_mount():
        pytest.skip("only root can hide a folder from a process")
    with tempfile.TemporaryDirectory(prefix="fnodes-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        machines = Machines(Path(folder), program)
        port = machines.address.partition(":")[2]
        machines.start(
            "head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}/ray"
        )
        yield machines
        for process in machines.started.values():
            process.kill()


@dataclass
class Journey:
    """A sweep that begins on `first` and ends on `late`.

    Attributes:
        run: the run directory.
        lost: t0000 when `first`, which it ran on, was killed.
        status: exit status of the sweep.
        said: on standard error.
        records: at the end.
    """

    run: Path
    lost: dict[str, Any]
    status: int
    said: str
    records: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def journey(
    machines: Machines,
    start: Callable[..., Any],
    data: Path,
    space_file: Path,
    records: Records,
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    run = tmp_path_factory.mktemp("runs") / "far"
    node = [f"--address={machines.address}", "--num-cpus=1", "--num-gpus=1"]
    machines.start("first", *node, before=f"mount -t tmpfs none {data}")
    # Trials that last for longer than a node needs to join, and are not pruned: else `late` would find no work.
    words = ["--space", space_file, "--trials", TRIALS, "--epochs", EPOCHS, "--gpus-per-trial", 0.5]
    where = ["--runs", run.parent, "--name", run.name, "--address", machines.address]
    process = start("sweep", data, *where, *words, **machines.access)

    def wait_for(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 200
        while not condition():
            assert process.popen.poll() is None, process.popen.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    wait_for(lambda: records(run).get("t0000", {}).get("curve"))
    machines.start("late", *node)
    wait_for(lambda: (run / "checkpoints" / "t0000.pt").exists() and records(run).get("t0001", {}).get("curve"))
    lost = records(run)["t0000"]
    machines.started["first"].kill()
    status = process.wait()
    return Journey(run, lost, status, process.err, records(run))


def test_the_sweep_comes_to_its_end_without_the_node_that_was_lost(journey: Journey) -> None:
    assert journey.status == 0, journey.said
    assert list(journey.records) == [f"t{i:04d}" for i in range(TRIALS)]
    assert {record["status"] for record in journey.records.values()} <= {"COMPLETE", "PRUNED"}
    complete = {name for name, record in journey.records.items() if record["status"] == "COMPLETE"}
    assert {path.stem for path in (journey.run / "oof").iterdir()} == complete
    assert "Traceback" not in journey.said


def test_the_trial_that_was_under_way_there_went_on_from_its_checkpoint(journey: Journey) -> None:
    assert journey.lost["status"] == "RUNNING"
    last = journey.records["t0000"]
    assert len(last["curve"]) > len(journey.lost["curve"]) > 3
    assert last["curve"][:3] == journey.lost["curve"][:3]  # with their seconds: they were not trained again


def test_work_ran_on_both_and_data_reached_the_node_that_had_none(
    journey: Journey, machines: Machines, data: Path
) -> None:
    fingerprint = verify_pictures(read_train(data))
    (copy,) = (folder for folder in machines.cache("first").glob("data/*") if folder.is_dir())
    assert verify_pictures(read_train(copy)) == fingerprint
    for name in ("first", "late"):
        assert list(machines.cache(name).glob("views/*.npy")), f"no photograph was decoded on {name}"
    assert not (machines.cache("late") / "data").exists()
    assert not machines.cache("head").exists()


def test_a_node_with_another_forage_is_refused_by_name(
    journey: Journey, machines: Machines, forage: Callable[..., Any], data: Path, space_file: Path, tmp_path: Path
) -> None:
    words = ["sweep", data, "--space", space_file, "--runs", tmp_path, "--address", machines.address]
    package = machines.folder / "site" / "forage-99.1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: forage\nVersion: 99.1\n")
    path = os.pathsep.join(filter(None, [str(package.parent), os.environ.get("PYTHONPATH")]))
    machines.start("other", f"--address={machines.address}", "--num-cpus=1", PYTHONPATH=path)
    said = forage(*words, **machines.access)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1), said.stderr
    assert f"{socket.gethostname()} has forage 99.1, the driver has " in said.stderr
    assert not any(tmp_path.iterdir())
