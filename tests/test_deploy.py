"""What lies in deploy/: files follow their schemas, commands exist, and the Slurm script does what its comments say."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer
import yaml
from setuptools import find_packages

from forage.cli import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.iterdir())
SCRIPTS = sorted(DEPLOY.glob("*.sh"))
KUBERAY = yaml.safe_load((ROOT / "tests" / "assets" / "kuberay_schema.yaml").read_text())
COMMAND = r"\bforage ((?:sweep|train|resume|predict|ensemble|status)\b[^'`\n>&]*)"
SHORT = r"\bsweep_or_resume\.sh\"? ([^'`\n>&]*)"


def commands(path: Path) -> list[list[str]]:
    """The words after `forage` of every command in a file, comments included, and of what sweep_or_resume.sh calls."""
    text = path.read_text().replace("\\\n", " ").replace('"$@"', "").replace("[OPTION...]", "")
    found = [shlex.split(words) for words in re.findall(COMMAND, text)]
    for address, data, runs, name, *options in map(shlex.split, re.findall(SHORT, text)):
        found.append(["sweep", data, "--runs", runs, "--name", name, "--address", address, *options])
    return found


def test_every_way_to_deploy_is_in_the_docs() -> None:
    page = (ROOT / "docs/how-to/cluster.md").read_text()
    assert {path.name for path in FILES} == set(re.findall(r"(?m)^\| \[([^]]+)\]\(\.\./\.\./deploy/\1\)", page))


def test_commands_of_forage_parse() -> None:
    group = typer.main.get_command(app)
    found = [words for path in FILES if path.name != "Dockerfile" for words in commands(path)]
    assert {words[0] for words in found} == {"sweep", "resume", "status"}
    assert len(found) >= 7
    for words in found:
        command = group.get_command(group.make_context("forage", ["recipes"], resilient_parsing=True), words[0])
        assert command is not None
        command.make_context(words[0], words[1:])  # raises where an option or an argument is none


def test_the_clusters_file_keeps_to_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text()), schema)


def kuberay(kind: str) -> Any:
    return yaml.safe_load((DEPLOY / f"kuberay-{kind.lower()}.yaml").read_text())


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_kuberay_resources_keep_to_their_schema(kind: str) -> None:
    validator = jsonschema.Draft7Validator({**KUBERAY[kind], "definitions": KUBERAY["definitions"]})
    resource = kuberay(kind)
    validator.validate(resource)
    cluster = resource["spec"] if kind == "RayCluster" else resource["spec"]["rayClusterSpec"]
    assert f"\nray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    assert cluster["authOptions"] == {"mode": "token"}
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["volumeMount"] = []
    assert not validator.is_valid(resource), "an unknown field is an error"


def test_the_pods_of_a_cluster_agree() -> None:
    cluster = kuberay("RayCluster")["spec"]
    assert cluster == kuberay("RayJob")["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    for pod in pods:
        volumes = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert "/shared" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    assert "set -euo pipefail" in path.read_text()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of every step of the Dockerfile."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text()).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_image_is_made_of_what_is_there() -> None:
    steps = instructions()
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", steps[0][1]), "a base with a version"
    assert [words for step, words in steps if step == "USER"] == ["forage"], "not root"
    assert ("USER", "forage") in steps[[step for step, _ in steps].index("RUN") :]
    copied = {
        word for step, words in steps if step == "COPY" for word in words.split()[:-1] if not word.startswith("--")
    }
    assert all((ROOT / name).exists() for name in copied)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == copied, ".dockerignore lets through what is copied, and nothing else"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    top = find_packages(ROOT, include=project["tool"]["setuptools"]["packages"]["find"]["include"])
    assert {name.split(".")[0] for name in top} <= copied
    (install,) = [words for step, words in steps if step == "RUN" and "pip install" in words]
    assert "--constraint constraints.txt" in install
    extras = re.findall(r"'\.\[(.+?)\]'", install)[0].split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])


def builder() -> str | None:
    """A program here that can build images."""
    for name in ("podman", "buildah", "docker"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    return None


@pytest.mark.slow
def test_the_image_can_be_built() -> None:
    program = builder()
    if program is None:
        pytest.skip("no docker, podman or buildah that works; the Dockerfile is checked without one")
    subprocess.run([program, "build", "--file", DEPLOY / "Dockerfile", "--tag", "forage-test", ROOT], check=True)


STUB = """#!/usr/bin/env bash
name=$(basename "$0")
echo "$name $* token=${RAY_AUTH_MODE:-}:${#RAY_AUTH_TOKEN}" >>"$CALLS"
case "$name $1" in
  "scontrol show") printf 'node1\\nnode2\\nnode3\\n' ;;
  "srun "*) while [[ $1 == --* ]]; do shift; done; [ "$1" = hostname ] && echo "10.0.0.1 fe80::1" || exec "$@" ;;
  "ray start") exec sleep 60 ;;
  "forage status") [ -e "$3/sweep.yaml" ] || [ -e "$2/sweep.yaml" ] ;;
  "forage sweep" | "forage resume")
    until [ "$(grep -c '^ray start' "$CALLS")" -ge 2 ]; do sleep 0.02; done
    [ -z "${FOREVER:-}" ] && exit 0
    trap 'echo "forage stopped" >>"$CALLS"; exit 130' TERM
    echo "forage waits" >>"$CALLS"
    while :; do sleep 0.02; done ;;
esac
"""


class Slurm:
    """The Slurm script on three nodes, with stubs for Slurm, Ray and forage that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        for name in ("scontrol", "srun", "ray", "forage"):
            (folder / "bin" / name).write_text(STUB)
            (folder / "bin" / name).chmod(0o755)
        self.calls, self.runs = folder / "calls", folder / "runs"
        self.env = {
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.calls), "DATA": "/shared/csiro", "RUNS": str(self.runs), "NAME": "night",
            "SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_NUM_NODES": "3",
            "SLURM_CPUS_PER_TASK": "16", "SLURM_GPUS_ON_NODE": "4", "SLURM_SUBMIT_DIR": str(ROOT),
        }  # fmt: skip
        self.env.pop("RAY_AUTH_TOKEN", None)

    def start(self, **more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["bash", DEPLOY / "slurm.sh"], env=self.env | more, start_new_session=True)

    def said(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


def test_slurm_starts_ray_with_a_token_and_sweeps_then_resumes(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    assert slurm.start().wait(30) == 0
    starts = [call for call in slurm.said() if call.startswith("ray start")]
    assert len(starts) == 2
    assert "ray start --head --node-ip-address=10.0.0.1 --port=22345 " in starts[0]
    assert "ray start --address=10.0.0.1:22345 --num-cpus=16 --num-gpus=4 " in starts[1]
    assert all(call.endswith("--block token=token:64") for call in starts)
    (others,) = [call for call in slurm.said() if call.startswith("srun") and "--exclude=node1" in call]
    assert "--nodes=2 --ntasks=2" in others
    (sweep,) = [call for call in slurm.said() if call.startswith("forage sweep")]
    assert f"/shared/csiro --runs {slurm.runs} --name night --address 10.0.0.1:22345 --trials 1000" in sweep
    assert sweep.endswith("token=token:64")
    (slurm.runs / "night").mkdir(parents=True)
    (slurm.runs / "night" / "sweep.yaml").touch()
    slurm.calls.unlink()
    assert slurm.start().wait(30) == 0
    assert not [call for call in slurm.said() if call.startswith("forage sweep")]
    assert [call for call in slurm.said() if call.startswith(f"forage resume {slurm.runs}/night --address 10.0.0.1:")]


def test_slurm_stops_the_sweep_and_requeues_when_the_time_is_up(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    process = slurm.start(FOREVER="1")
    deadline = time.monotonic() + 30
    while "forage waits" not in slurm.said():
        assert process.poll() is None, slurm.said()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert slurm.said().index("forage stopped") < next(
        i for i, call in enumerate(slurm.said()) if call.startswith("scontrol requeue 12345")
    )


def test_slurm_needs_the_folders(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    done = subprocess.run(["bash", DEPLOY / "slurm.sh"], env=slurm.env | {"DATA": ""}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "set DATA to the data folder" in done.stderr
