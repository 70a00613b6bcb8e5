"""`forage doctor`: it reports facts, and what is wrong in a line each."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import forage.environment.doctor
from trainables.recipe.versions import forage_version


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import trainables.network.backbone

    monkeypatch.setattr(trainables.network.backbone, "reachable", lambda endpoint: False)


def test_it_names_versions_devices_and_places(shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FORAGE_CACHE_LIMIT", "7")
    said = shell("doctor", "--json")
    facts = json.loads(said.out)
    assert (said.status, said.err, facts["problems"]) == (0, "", [])
    assert facts["forage"] == forage_version()
    assert facts["torch"]["torch"] == torch.__version__
    assert {"ray", "timm", "optuna"} <= set(facts["packages"])
    assert len(facts["devices"]["gpus"]) == torch.cuda.device_count()
    assert (facts["cache"]["folder"], facts["cache"]["limit_gb"]) == (str(tmp_path / "cache"), 7.0)
    assert facts["hub"]["reachable"] is False
    assert not (tmp_path / "cache").exists()
    text = shell("doctor").out
    assert [line.partition(":")[0] for line in text.splitlines()] == [name for name in facts if name != "problems"]
    assert "limit_gb 7" in text
    assert f"threads {facts['devices']['threads']}," in text
    assert "reachable no" in text


def test_a_torchvision_for_another_torch_is_a_problem(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(types.ModuleType):
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken("broken"), *sys.meta_path])
    said = shell("doctor")
    assert said.status == 1
    assert "does not work with torch" in said.err
    assert "(operator torchvision::nms does not exist); install the two together" in said.err
    assert said.err.count("\n") == 1


def test_a_cache_below_a_file_is_a_problem(shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "file" / "cache"))
    said = shell("doctor")
    assert said.status == 1
    assert "file/cache cannot be written; set FORAGE_CACHE to another folder" in said.err


def test_a_missing_library_and_a_full_disk_are_problems(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = forage.environment.doctor.version

    def version(name: str) -> str:
        if name == "optuna":
            raise forage.environment.doctor.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(forage.environment.doctor, "version", version)
    monkeypatch.setattr(forage.environment.doctor, "_disk", lambda folder: {"folder": str(folder), "free_gb": 0.5})
    said = shell("doctor", "--json")
    problems = json.loads(said.out)["problems"]
    assert said.status == 1
    assert problems[0] == "optuna is not installed; install what forage needs"
    assert "has 0.5 GB left" in problems[1]
