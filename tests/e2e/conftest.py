"""Whole journeys through the installed command. Every process that a test starts, Ray's too, is gone after it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from forage.cli import main
from pasture.synthetic import make_data
from programs.program import Program
from tests.e2e.fork_server import ForkedCommand, start_server

COMMAND = Path(sys.executable).with_name("forage")

SPACE: dict[str, Any] = {
    "base": {
        "view": {"kind": "whole", "size": 32},
        "backbone": {"name": "test_resnet", "weights": "none", "tuning": "full"},
        "head": {"hidden": [16]},
        "augment": {"strength": "light"},
        "validation": {"folds": 3},
        "schedule": {"epochs": 6, "batch_size": 8},
    },
    "search": {
        "optimizer.head_lr": {"log_uniform": [1e-4, 1e-2]},
        "head.dropout": {"uniform": [0.1, 0.5]},
        "target.transform": {"choice": ["none", "log1p"]},
    },
}


class Process(Program):
    """A running program, what it says and what it has started."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        super().__init__(command, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.out = self.err = ""

    def wait(self, timeout: float = 240) -> int:
        """Its exit status; afterwards `out` and `err` hold what it said."""
        try:
            self.out, self.err = self.popen.communicate(timeout=timeout)
        finally:
            self.kill()
        return self.popen.returncode

    def workers(self) -> list[int]:
        """Those of them that run trials; Ray gives its workers such titles."""
        return [pid for pid in self.descendants() if b"RayTrial" in _title(pid)]

    def tokens(self) -> list[str | None]:
        """What each raylet among them was told about authentication by token."""
        raylets = [pid for pid in self.descendants() if b"raylet/raylet" in _title(pid)]
        variables = [(Path(f"/proc/{pid}/environ")).read_bytes().decode().split("\0") for pid in raylets]
        return [dict(v.partition("=")[::2] for v in words).get("RAY_AUTH_MODE") for words in variables]


class ForkedProcess(Process):
    """The same for a command of forage, without the time to import it."""

    def start(self, command: Sequence[str], env: Mapping[str, str], **_: Any) -> ForkedCommand:
        return ForkedCommand(command[1:], env)


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


Start = Callable[..., Process]
Forage = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def program() -> Iterator[Start]:
    """`program("ray", ..., VARIABLE=value)`: begin a program in the background."""
    started: list[Process] = []
    # Ray's sockets need a short path, and what a killed driver leaves must not stay in /tmp.
    scratch = tempfile.mkdtemp(prefix="fe2e-", dir="/tmp")
    shared = {
        "FORAGE_CACHE": f"{scratch}/cache",
        "TMPDIR": scratch,
        "RAY_TMPDIR": scratch,
        "COLUMNS": "400",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # threads that wait for each other on busy cores make an epoch 50 times as long
    }

    start_server(shared)

    def begin(*command: object, **env: str) -> Process:
        kind = ForkedProcess if command[0] == COMMAND else Process
        process = kind([str(word) for word in command], {**shared, **env})
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="module")
def start(program: Start) -> Start:
    """`start("sweep", ..., VARIABLE=value)`: begin a command of forage in the background."""
    return lambda *words, **env: program(COMMAND, *words, **env)


@pytest.fixture(scope="module")
def forage(start: Start) -> Forage:
    """`forage("sweep", ..., VARIABLE=value)`: run a command to its end."""

    def run(*words: object, timeout: float = 240, **env: str) -> subprocess.CompletedProcess[str]:
        process = start(*words, **env)
        status = process.wait(timeout)
        return subprocess.CompletedProcess(words, status, process.out, process.err)

    return run


def only_line(text: str) -> str:
    assert "Traceback" not in text
    (line,) = text.strip().splitlines()
    assert line.startswith("forage: ")
    return line


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """`refused(*words, status=2)`: the one line with which a command gives up before it starts Ray."""

    def no_ray(**_: object) -> None:
        pytest.fail("Ray was started for something that is wrong without it")

    def run(*words: object, status: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["forage", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        assert caught.value.code == status, said.err
        assert said.out == ""
        return only_line(said.err)

    monkeypatch.setattr("ray.init", no_ray)
    monkeypatch.setattr("warnings.showwarning", None)  # `main` sets it; put back afterwards
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small synthetic paddocks."""
    out = tmp_path_factory.mktemp("paddocks") / "data"
    make_data(out, images=24, width=200, height=100)
    return out


@pytest.fixture(scope="session")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space whose trials take about a second."""
    path = tmp_path_factory.mktemp("space") / "tiny.yaml"
    path.write_text(yaml.safe_dump(SPACE, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def records() -> Callable[[Path], dict[str, dict[str, Any]]]:
    """`records(run)`: the ledger of a run as it lies on disk, also while the run goes on."""

    def read(run: Path) -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in sorted((run / "trials").glob("t*.json"))}

    return read
