"""A run directory on an object store: a real S3 protocol server on loopback. Slow: two sessions of Ray."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ensemble.members.load import load_members
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger
from tune.sweep import collect, resume

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MANY = 500


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3 server with an empty bucket named `paddock`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (tmp_path_factory.mktemp("s3") / "log").open("wb") as log:
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(words, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                make = urllib.request.Request(f"{address}/paddock", method="PUT")
                urllib.request.urlopen(make, timeout=10).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert server.poll() is None
                time.sleep(0.1)
        yield address
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def account(endpoint: str) -> Iterator[dict[str, str]]:
    """Environment of somebody who may use it; this process has it too."""
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="module")
def journey(
    start: Callable[..., Any],
    forage: Callable[..., subprocess.CompletedProcess[str]],
    account: dict[str, str],
    data: Path,
    space_file: Path,
) -> dict[str, Any]:
    """A long sweep that is killed with kill -9; a resume while it runs, and one after that, to a near end."""
    words = ["--space", space_file, "--search", "random", "--epochs", 2, "--cpus-per-trial", os.cpu_count()]
    where = ["--runs", "s3://paddock/runs", "--name", "night"]
    process = start("sweep", data, *where, *words, "--trials", MANY, **account)
    run = RunFolder("s3://paddock/runs/night")
    deadline = time.monotonic() + 240
    while not run.oof.names():
        assert process.popen.poll() is None, process.popen.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(InputError) as second:
        resume(run)
    process.kill()
    before = Ledger(run)
    last = forage("resume", run, "--trials", len(before.records) + 1, "--json", **account)
    return {"run": run, "second": str(second.value), "before": before, "last": last}


def test_a_second_driver_is_refused(journey: dict[str, Any]) -> None:
    assert "s3://paddock/runs/night: another forage is at work there (process " in journey["second"]
    assert "\n" not in journey["second"]


def test_the_lease_of_a_killed_driver_is_taken_over_and_the_sweep_comes_to_its_end(journey: dict[str, Any]) -> None:
    last = journey["last"]
    assert last.returncode == 0, last.stderr
    result = json.loads(last.stdout)
    ledger = Ledger(journey["run"])
    assert result["complete"] + result["pruned"] == len(ledger.records) == len(journey["before"].records) + 1
    assert result["run"] == "s3://paddock/runs/night"
    assert "report: s3://paddock/runs/night/report.html" in last.stderr
    for record in journey["before"].ended():
        assert ledger.records[record.name] == record
    assert not journey["run"].folder.exists("driver.json")


def test_status_gc_and_a_blend_read_it_like_any_other(
    journey: dict[str, Any], forage: Callable[..., subprocess.CompletedProcess[str]], account: dict[str, str]
) -> None:
    run = journey["run"]
    said = forage("status", run, "--json", **account)
    assert json.loads(said.stdout)["complete"] == len(run.oof.names())
    assert json.loads(said.stdout)["bytes"] == sum(run.folder.sizes().values())
    assert collect(run, keep=1) > 0
    (kept,) = (name.removesuffix(".parquet") for name in run.oof.names())
    assert {path.split("/")[1] for path in run.folder.sizes() if path.startswith("weights/")} == {kept}
    assert [member.trial for member in load_members([run], "d4").members] == [kept]
