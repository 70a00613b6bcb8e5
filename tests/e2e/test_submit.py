"""deploy/submit.sh: this checkout and a sweep, sent as a job to a head that asks for a token and has no forage. Slow.

The head runs in an environment with links to all libraries but forage, so that Ray's copy of it for the job is small.
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
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_cluster import bare_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2}
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0 is pip's word for: no isolation


@pytest.fixture(scope="module")
def head(program: Callable[..., Any]) -> Iterator[str]:
    """The address of the dashboard of a head with a token."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            ports.append(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="fj-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        python = bare_python(Path(folder) / "bare")
        log = Path(folder) / "head.log"
        words = ["-m", "ray.scripts.scripts", "start", "--head", f"--port={ports[0]}", f"--temp-dir={folder}/ray"]
        words += [f"--dashboard-port={ports[1]}", "--num-cpus=1", "--disable-usage-stats", "--block"]
        shell = f"cd {folder} && exec {python} {' '.join(words)} >{log} 2>&1"
        process = program("sh", "-c", shell, **TOKEN, **OFFLINE, PYTHONPATH="")
        deadline = time.monotonic() + 120
        while not log.exists() or "--block" not in log.read_text():
            assert process.popen.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{ports[1]}"
        process.kill()


def test_a_sweep_runs_as_a_job_with_the_code_and_the_versions_of_the_checkout(
    head: str, data: Path, space_file: Path, tmp_path: Path
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **TOKEN, "PATH": path, "RAY_API_SERVER_ADDRESS": head, "DATA": str(data)}
    env |= {"RUNS": str(tmp_path / "runs")}

    def run(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(word) for word in words], env=env | more, capture_output=True, text=True)

    assert run("ray", "job", "list", RAY_AUTH_TOKEN="0" * 64).returncode != 0
    sweep = ["--space", space_file, "--trials", 1, "--epochs", 1, "--gpus-per-trial", 0]
    sent = run("bash", ROOT / "deploy" / "submit.sh", "night", *sweep)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    deadline, trial = time.monotonic() + 300, tmp_path / "runs" / "night" / "trials" / "t0000.json"
    while not trial.exists() or '"COMPLETE"' not in trial.read_text():
        assert time.monotonic() < deadline, run("ray", "job", "logs", "night").stdout
        time.sleep(0.2)
    while "succeeded" not in (status := run("ray", "job", "status", "night").stdout.lower()):
        assert time.monotonic() < deadline, status + run("ray", "job", "logs", "night").stdout
        assert "failed" not in status, status + run("ray", "job", "logs", "night").stdout
