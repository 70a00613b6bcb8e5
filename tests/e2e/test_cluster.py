"""Three Ray nodes on one machine, each with a network, a cache and a view of the disk of its own. Slow: a cluster.

The head computes nothing. `first` does not see the data folder (a mount of its own hides it) and is killed in the
middle; `late` joins under way; `other` has another version of forage. Nothing depends on how fast the machine is: each
worker is suspended for as long as the others need.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pasture.checksum import remove_checksum
from pasture.dataset import read_train
from pasture.verification import verify
from tune.cluster.ray_trial import CHECKPOINT_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGES = ("pasture", "trainables", "search_spaces", "tune", "ensemble", "forage")
COMMAND = Path(sys.executable).with_name("forage")
TRIALS = 2
EPOCHS = 120
SPACE = {
    "base": {
        "view": {"kind": "whole", "size": 32},
        "backbone": {"name": "test_resnet", "weights": "none"},  # frozen: its features are shared
        "head": {"hidden": [256]},
        "augment": {"strength": "light"},
        "validation": {"folds": 3},
        "schedule": {"epochs": EPOCHS, "batch_size": 2},
    },
    "search": {"optimizer.head_lr": {"log_uniform": [1e-4, 1e-2]}},
}
Records = Callable[[Path], dict[str, dict[str, Any]]]


def may_isolate() -> bool:
    """Whether this user may make networks and mounts that only some processes see."""
    words = ["unshare", "--net", "--mount", "sh", "-c", "ip link add br0 type bridge && mount -t tmpfs none /mnt"]
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Machines:
    """Ray nodes, each a family of processes with a cache of its own; tokens are asked for.

    Args:
        folder: for what they write.
        program: starts one.
        isolated: each has a network of its own, all joined by a bridge on the head's, and mounts that it alone sees.
    """

    def __init__(self, folder: Path, program: Callable[..., Any], isolated: bool) -> None:
        self.folder, self.program, self.isolated = folder, program, isolated
        self.started: dict[str, Any] = {}
        self.networks: list[str] = []
        self.access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.address = f"{'10.0.0.1' if isolated else '127.0.0.1'}:{port}"

    def head(self) -> None:
        """Start the node that the others join."""
        port = self.address.partition(":")[2]
        words = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}/ray"]
        self.start("head", *words, cpus=0)

    def start(
        self,
        name: str,
        *words: str,
        cpus: int = 1,
        hidden: Path | None = None,
        python: Path = Path(sys.executable),
        **env: str,
    ) -> None:
        """Start a node and wait until it is there. It sees nothing in the folder `hidden`, where nodes are isolated."""
        words = words or (f"--address={self.address}",)
        log = self.folder / f"{name}.log"
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats", "--block"]
        own = {"FORAGE_CACHE": str(self.cache(name)), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        hide = f"mount -t tmpfs none {hidden} && " if hidden and self.isolated else ""
        command = " ".join([str(python), "-m", "ray.scripts.scripts", "start", *words, f"--num-cpus={cpus}", *ports])
        command = " ".join([command, *self.network(name)])
        shell = ["sh", "-c", f"cd {self.folder} && {hide}exec {command} >{log} 2>&1"]
        self.started[name] = self.program(*self.inside(name), *shell, **self.access, **own, **env)
        deadline = time.monotonic() + 120
        while not log.exists() or "--block" not in log.read_text():  # it says so once it has started
            assert self.started[name].popen.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def network(self, name: str) -> list[str]:
        """Make the network of a node; the words that tell Ray of it."""
        if not self.isolated:
            return []
        space, number = self.space(name), len(self.networks) + 1
        self.networks.append(space)
        commands = [f"netns add {space}", f"-n {space} link set lo up"]
        if name == "head":
            commands += [f"-n {space} link add port type bridge"]
        else:
            head = self.space("head")
            commands += [
                f"-n {head} link add p{number} type veth peer name port netns {space}",
                f"-n {head} link set p{number} master port up",
            ]
        for command in [*commands, f"-n {space} addr add 10.0.0.{number}/24 dev port", f"-n {space} link set port up"]:
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)
        return [f"--node-ip-address=10.0.0.{number}"]

    def space(self, name: str) -> str:
        return f"{self.folder.name}-{name}"

    def inside(self, name: str) -> list[str]:
        """Words before a command that is to run on a node."""
        return ["ip", "netns", "exec", self.space(name)] if self.isolated else []

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the workers that run trials on a node."""
        for pid in self.started[name].workers():
            os.kill(pid, number)

    def cache(self, name: str) -> Path:
        return self.folder / f"cache-{name}"

    def close(self) -> None:
        for process in self.started.values():
            process.kill()
        for space in self.networks:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


@pytest.fixture(scope="module")
def machines(program: Callable[..., Any]) -> Iterator[Machines]:
    with tempfile.TemporaryDirectory(prefix="fn-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        machines = Machines(Path(folder), program, may_isolate())
        try:
            machines.head()
            yield machines
        finally:
            machines.close()


@dataclass
class Journey:
    """A sweep that begins on `first` and ends on `late`.

    Attributes:
        run: the run directory.
        lost: status of t0000 when `first`, which it ran on, was killed.
        saved: the epochs of t0000 in its checkpoint at that time.
        status: exit status of the sweep.
        said: on standard error.
        records: at the end.
    """

    run: Path
    lost: str
    saved: list[dict[str, Any]]
    status: int
    said: str
    records: dict[str, dict[str, Any]]


def wait_for(condition: Callable[[], Any], process: Any) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.popen.poll() is None, process.popen.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "frozen.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path


@pytest.fixture(scope="module")
def begin(machines: Machines, program: Callable[..., Any]) -> Callable[..., Any]:
    """Begin a command of forage on the head; not here: Ray lets nodes import what lies where the driver runs."""
    elsewhere = ["env", "-C", machines.folder]
    return lambda *words: program(*machines.inside("head"), *elsewhere, COMMAND, *words, **machines.access)


@pytest.fixture(scope="module")
def journey(
    machines: Machines,
    begin: Callable[..., Any],
    data: Path,
    space: Path,
    records: Records,
    tmp_path_factory: pytest.TempPathFactory,
) -> Journey:
    run = tmp_path_factory.mktemp("runs") / "far"
    machines.start("first", hidden=data)
    where = ["--runs", run.parent, "--name", run.name, "--address", machines.address]
    process = begin("sweep", data, *where, "--space", space, "--trials", TRIALS)
    wait_for(lambda: records(run).get("t0000", {}).get("curve"), process)
    machines.signal("first", signal.SIGSTOP)  # it holds t0000, and can hold no other: the next is for `late`
    held = time.monotonic()
    machines.start("late")
    wait_for(lambda: records(run).get("t0001", {}).get("curve"), process)
    machines.signal("late", signal.SIGSTOP)  # t0000 shall be the first at each rung, or it might be pruned
    time.sleep(max(0, held + CHECKPOINT_SECONDS - time.monotonic()))
    machines.signal("first", signal.SIGCONT)
    checkpoint = run / "checkpoints" / "t0000.pt"
    wait_for(checkpoint.exists, process)
    machines.started["first"].kill()
    lost = records(run)["t0000"]["status"]
    saved = torch.load(io.BytesIO(remove_checksum(checkpoint.read_bytes())), weights_only=True)["curve"]
    machines.signal("late", signal.SIGCONT)
    status = process.wait()
    return Journey(run, lost, saved, status, process.err, records(run))


def test_the_sweep_comes_to_its_end_without_the_node_that_was_lost(journey: Journey) -> None:
    assert journey.status == 0, journey.said
    assert list(journey.records) == [f"t{i:04d}" for i in range(TRIALS)]
    assert {record["status"] for record in journey.records.values()} <= {"COMPLETE", "PRUNED"}
    complete = {name for name, record in journey.records.items() if record["status"] == "COMPLETE"}
    assert {path.stem for path in (journey.run / "oof").iterdir()} == complete
    assert "Traceback" not in journey.said


def test_the_trial_that_was_under_way_there_went_on_from_its_checkpoint(journey: Journey) -> None:
    assert journey.lost == "RUNNING"
    curve = journey.records["t0000"]["curve"]
    assert len(curve) > len(journey.saved) > 0
    assert curve[: len(journey.saved)] == journey.saved  # with their seconds: they were not trained again


def test_data_reached_the_node_that_had_none(journey: Journey, machines: Machines, data: Path) -> None:
    if not machines.isolated:
        pytest.skip("only root can hide a folder from a process")
    fingerprint = verify(read_train(data)).fingerprint
    (copy,) = (folder for folder in machines.cache("first").glob("data/*") if folder.is_dir())
    assert verify(read_train(copy)).fingerprint == fingerprint
    assert not (machines.cache("late") / "data").exists()


def test_work_ran_on_both_and_features_computed_by_one_served_the_other(journey: Journey, machines: Machines) -> None:
    (made,) = machines.cache("first").glob("features/*.npy")
    (taken,) = machines.cache("late").glob("features/*.npy")
    assert (made.name, made.read_bytes()) == (taken.name, taken.read_bytes())
    assert list(machines.cache("first").glob("views/*.npy"))
    assert not (machines.cache("late") / "views").exists(), "late has looked at a photograph"
    assert not machines.cache("head").exists()


def bare_python(folder: Path) -> Path:
    """An interpreter with every library that this one has, but without forage."""
    venv.create(folder, with_pip=False, symlinks=True)
    (theirs,) = folder.glob("lib/python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "forage" not in path.name and path.name not in PACKAGES:
            (theirs / path.name).symlink_to(path)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def strangers(journey: Journey, machines: Machines) -> None:
    """`bare` has no forage; `other` has one of another version, and computes nothing; `late` is gone."""
    machines.started["late"].kill()
    machines.start("bare", python=bare_python(machines.folder / "bare"), PYTHONPATH="")
    package = machines.folder / "site" / "pasture_forage-99.1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: pasture-forage\nVersion: 99.1\n")
    path = os.pathsep.join(filter(None, [str(package.parent), os.environ.get("PYTHONPATH")]))
    machines.start("other", cpus=0, PYTHONPATH=path)


def test_nodes_with_another_forage_or_none_are_refused_by_name(
    strangers: None, machines: Machines, begin: Callable[..., Any], data: Path, space: Path, tmp_path: Path
) -> None:
    process = begin("sweep", data, "--space", space, "--runs", tmp_path, "--address", machines.address)
    status = process.wait()
    (said,) = (line for line in process.err.splitlines() if line.startswith("forage: "))  # Ray may tell of `first`
    assert status == 2, process.err
    assert said.count("node ") == 2  # not `first`, which is dead, whether Ray has noticed that or not
    assert f"{socket.gethostname()} has forage 99.1, the driver has " in said
    assert "has no forage: install " in said
    assert "--ship-code" in said
    assert not any(tmp_path.iterdir())


@dataclass
class Headless:
    """A sweep whose code was sent to `bare`, where it ran, until the head was killed.

    Attributes:
        run: the run directory.
        before: t0000 when the head was killed.
        status: exit status of the sweep.
        said: on standard error.
        seconds: from the death of the head to the end of the driver.
    """

    run: Path
    before: dict[str, Any]
    status: int
    said: str
    seconds: float


@pytest.fixture(scope="module")
def headless(
    strangers: None,
    machines: Machines,
    begin: Callable[..., Any],
    data: Path,
    space: Path,
    records: Records,
    tmp_path_factory: pytest.TempPathFactory,
) -> Headless:
    run = tmp_path_factory.mktemp("runs") / "headless"
    where = ["--runs", run.parent, "--name", run.name, "--address", machines.address]
    process = begin("sweep", data, *where, "--space", space, "--trials", 1, "--ship-code")
    wait_for(lambda: records(run).get("t0000", {}).get("curve"), process)
    machines.signal("bare", signal.SIGSTOP)
    before = records(run)["t0000"]
    machines.started["head"].kill()
    began = time.monotonic()
    status = process.wait()
    return Headless(run, before, status, process.err, time.monotonic() - began)


def test_code_reached_nodes_that_had_none(headless: Headless, machines: Machines) -> None:
    assert headless.before["status"] == "RUNNING"
    assert list(machines.cache("bare").glob("features/*.npy"))


def test_death_of_the_head_ends_the_driver_with_a_word(headless: Headless) -> None:
    assert headless.status == 1
    assert headless.said.count("\n") == 1, headless.said
    assert f"no longer answers; go on with: forage resume {headless.run}" in headless.said
    assert headless.seconds < 55, "it was Ray that ended it"


def test_and_the_sweep_goes_on_elsewhere(headless: Headless, forage: Callable[..., Any], records: Records) -> None:
    said = forage("resume", headless.run)
    assert said.returncode == 0, said.stderr
    (last,) = records(headless.run).values()
    assert last["status"] == "COMPLETE"
    assert last["params"] == headless.before["params"]
