"""deploy/submit.sh: this checkout and a sweep, sent as a job to a head that asks for a token and has no forage. Slow.

The head runs in an environment with links to all libraries but forage, so that Ray's copy of it for the job is small.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
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


def job(head: str, name: str, token: str) -> dict[str, Any]:
    """What the head knows about a job, which takes a command of `ray job` seconds to ask."""
    request = urllib.request.Request(f"{head}/api/jobs/{name}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: dict[str, Any] = json.load(answer)
    return content


def test_a_sweep_runs_as_a_job_with_the_code_and_the_versions_of_the_checkout(
    head: str, data: Path, space_file: Path, tmp_path: Path
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **TOKEN, "PATH": path, "RAY_API_SERVER_ADDRESS": head, "DATA": str(data)}
    sweep = ["--space", space_file, "--trials", "1", "--epochs", "1", "--gpus-per-trial", "0"]
    command = ["bash", ROOT / "deploy" / "submit.sh", "night", *sweep]
    deadline = time.monotonic() + 400
    while (
        sent := subprocess.run(command, env=env | {"RUNS": str(tmp_path)}, capture_output=True, text=True)
    ).returncode:
        assert "No available agent" in sent.stderr, sent.stderr  # the head has just started
        assert time.monotonic() < deadline, sent.stderr
    with pytest.raises(urllib.error.HTTPError, match=r"403|401"):
        job(head, "night", "0" * 64)
    while (state := job(head, "night", TOKEN["RAY_AUTH_TOKEN"]))["status"] != "SUCCEEDED":
        assert state["status"] in ("PENDING", "RUNNING"), state
        assert time.monotonic() < deadline, state
        time.sleep(0.3)
    trial = json.loads((tmp_path / "night" / "trials" / "t0000.json").read_text())
    assert trial["status"] == "COMPLETE"
