"""deploy/submit.sh sends a sweep to a head that asks for a token. Slow; for `make jobs`, which has ray[default]."""

from __future__ import annotations

import importlib.util
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * DEADLINE),
    pytest.mark.skipif(
        importlib.util.find_spec("aiohttp_cors") is None, reason="for `make jobs`, which installs ray[default]"
    ),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def access() -> dict[str, str]:
    """Environment variables of the head, and of everyone who may submit."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2,
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{free_port()}",
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    }


@pytest.fixture(scope="module")
def head(program: Callable[..., Any], access: dict[str, str]) -> Iterator[None]:
    """A head with a dashboard, which takes jobs."""
    port = access["RAY_API_SERVER_ADDRESS"].rpartition(":")[2]
    ports = [f"--port={free_port()}", f"--dashboard-port={port}", f"--dashboard-agent-listen-port={free_port()}"]
    words = ["--head", *ports, "--include-dashboard=true", "--num-cpus=1", "--disable-usage-stats", "--block"]
    process = program("ray", "start", *words, **access)
    deadline = time.monotonic() + DEADLINE
    while socket.socket().connect_ex(("127.0.0.1", int(port))):
        assert process.popen.poll() is None, process.popen.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield
    process.kill()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def submit(
    head: None, program: Callable[..., Any], access: dict[str, str], data: Path, runs: Path, space_file: Path
) -> Callable[..., Any]:
    """`submit("--trials", 1, VARIABLE=value)`: send a sweep named `night` and wait until it is sent."""
    own = {**access, "DATA": str(data), "RUNS": str(runs), "LIBRARIES": "nodes"}

    def send(*options: object, **env: str) -> Any:
        words = [ROOT / "deploy" / "submit.sh", "night", "--space", space_file, *options]
        process = program("bash", *words, **{**own, **env})
        process.wait(DEADLINE)
        return process

    return send


@pytest.fixture(scope="module")
def log_of(program: Callable[..., Any], access: dict[str, str]) -> Callable[[str], str]:
    """`log_of(job)`: what a job has said, once it has ended."""

    def wait(job: str) -> str:
        process = program("ray", "job", "logs", "--follow", job, **access)
        process.wait(DEADLINE)
        return str(process.out + process.err)

    return wait


def test_a_job_without_the_token_is_refused(submit: Callable[..., Any], runs: Path) -> None:
    process = submit("--trials", 1, RAY_AUTH_TOKEN=uuid.uuid4().hex * 2)
    assert process.popen.returncode != 0
    assert "invalid authentication token" in (process.out + process.err).lower()
    assert not any(runs.iterdir())


def test_a_submitted_sweep_runs_and_the_same_command_resumes_it(
    submit: Callable[..., Any], log_of: Callable[[str], str], records: Callable[[Path], Any], runs: Path
) -> None:
    first = submit("--trials", 1)
    assert first.popen.returncode == 0, first.err
    said = log_of("night")
    assert "Job 'night' succeeded" in said, said
    assert [record["status"] for record in records(runs / "night").values()] == ["COMPLETE"]

    second = submit("--trials", 1)
    assert second.popen.returncode == 0, second.err
    said = log_of("night-2")
    assert "Job 'night-2' succeeded" in said, said
    assert f"{runs}/night: 1 trials, 1 complete" in said
