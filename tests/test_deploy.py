"""What lies in deploy/ is whole: files parse, keys are those of Ray's schema, commands are commands of forage."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray
import typer
import yaml

from forage.cli import app

DEPLOY = Path(__file__).parents[1] / "deploy"
FILES = sorted(path for path in DEPLOY.iterdir())


def text_of(path: Path) -> str:
    """Of a notebook, its code cells."""
    if path.suffix != ".ipynb":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def commands(path: Path) -> list[list[str]]:
    """The words after `forage` of every command of it, comments' too."""
    text = text_of(path).replace("\\\n", " ")
    found = re.findall(r"\bforage ((?:sweep|train|resume|predict|ensemble|status)\b[^'`\n]*)", text)
    return [[word for word in shlex.split(words.replace("...", "runs/night")) if word != "#"] for words in found]


def test_every_way_to_deploy_is_there_and_in_the_docs() -> None:
    names = {path.name for path in FILES}
    assert {"ray-cluster.yaml", "kuberay-rayjob.yaml", "submit.sh", "kaggle.ipynb"} <= names
    page = (DEPLOY.parent / "docs/how-to/cluster.md").read_text()
    assert all(f"[{name}](../../deploy/{name})" in page for name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_of_forage_parse(path: Path) -> None:
    assert commands(path)
    group = typer.main.get_command(app)
    for words in commands(path):
        command = group.get_command(group.make_context("forage", ["recipes"], resilient_parsing=True), words[0])
        assert command is not None
        command.make_context(words[0], words[1:])  # raises where an option or an argument is none


def test_the_clusters_file_keeps_to_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text()), schema)


def test_the_rayjob_is_one_whose_pods_agree() -> None:
    job = yaml.safe_load((DEPLOY / "kuberay-rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    for pod in pods:
        volumes = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert "/shared" in {mount["mountPath"] for mount in container["volumeMounts"]}
