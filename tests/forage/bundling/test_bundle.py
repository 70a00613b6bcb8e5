"""`forage bundle`: what it holds, which wheels it gets, and what predicting imports."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import forage
from ensemble.blend.blend import Blend
from forage.bundling import packages, wheels
from forage.bundling.packages import HOST, lacking
from trainables.features import embeddings
from trainables.recipe.sections import Stage
from trainables.recipe.versions import DISTRIBUTION, forage_version

TRAINING = "ray", "optuna", "albumentations", "plotly", "peft"


@pytest.fixture(autouse=True)
def golden_bank(golden_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embeddings that the golden blend was made from."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    embeddings.adopt("golden", forage.load_run(golden_folder / "run").folder.banks)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip finds: a folder with empty wheels of timm and safetensors."""
    folder = tmp_path / "registry"
    folder.mkdir()
    for name, tag in (("timm", "py3-none-any"), ("safetensors", "cp38-abi3-manylinux_2_17_x86_64")):
        stem = f"{name}-{version(name)}"
        with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as wheel:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version(name)}\n"
            wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
            wheel.writestr(f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def own_wheel() -> str:
    return f"{DISTRIBUTION.replace('-', '_')}-{forage_version()}-py3-none-any.whl"


def test_a_bundle_holds_blend_wheels_embeddings_and_notebook(
    golden_folder: Path, registry: Path, shell: Any, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    said = shell("bundle", golden_folder / "blend", "--out", out, "--python-version", "3.12", "--with", "safetensors")
    assert (said.status, said.out) == (0, ""), said.err
    assert sorted(path.name for path in out.iterdir()) == ["blend", "cache", "inference.ipynb", "wheels"]
    names = {path.name for path in (out / "wheels").iterdir()}
    assert names == {own_wheel(), *(path.name for path in registry.iterdir())}
    assert "3 wheels" in said.err
    assert "warning: bank:golden has embeddings of the photographs that were imported" in said.err
    copy, original = (folder / "embeddings" / "golden.safetensors" for folder in (out / "cache", tmp_path / "cache"))
    assert copy.read_bytes() == original.read_bytes()
    files = [path for path in (golden_folder / "blend").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert (out / "blend" / path.relative_to(golden_folder / "blend")).read_bytes() == path.read_bytes()


def test_a_zip_file_and_what_the_host_has(golden_folder: Path, registry: Path, tmp_path: Path) -> None:
    shutil.rmtree(registry)  # nothing is to be downloaded
    made = forage.load_blend(golden_folder / "blend").bundle(tmp_path / "new" / "b.zip", without=["Timm"])
    assert made.wheels == [own_wheel()]
    with zipfile.ZipFile(made.path) as archive:
        assert {"blend/blend.json", "inference.ipynb", f"wheels/{own_wheel()}"} <= set(archive.namelist())


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--out", "{tmp}/cache"], 2, "exists"),
        (["--out", "{tmp}/b", "--with", "torch", "--without", "Torch"], 2, "contradict each other"),
        (["--out", "{tmp}/b", "--with", "skitlearn"], 2, "--with skitlearn: "),
        (["--out", "{tmp}/b", "--with", "Pillow"], 1, f"a wheel of pillow=={version('pillow')} "),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    golden_folder: Path, words: list[str], status: int, message: str, registry: Path, shell: Any, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    said = shell("bundle", golden_folder / "blend", *(word.format(tmp=tmp_path) for word in words))
    assert (said.status, said.err.count("\n")) == (status, 1), said.err
    assert message in said.err
    assert sorted(tmp_path.iterdir()) == before


def test_forage_that_was_never_installed_is_refused(
    golden_folder: Path, tmp_path: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (packages, wheels):
        monkeypatch.setattr(module, "DISTRIBUTION", "no-such-distribution")
    said = shell("bundle", golden_folder / "blend", "--out", tmp_path / "b")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "is not installed" in said.err


def test_requirements_are_followed_as_far_as_the_host_lacks_them(golden_folder: Path) -> None:
    blend = Blend.read(golden_folder / "blend")
    assert dict(lacking(blend, HOST)) == {"timm": version("timm")}
    more = {name for name, _ in lacking(blend, HOST - {"scikit-learn"})}
    assert more >= {"timm", "scikit-learn", "joblib", "threadpoolctl"}
    assert not more & {"scipy", "numpy", *TRAINING}


def test_what_a_member_alone_needs(golden_folder: Path) -> None:
    blend = Blend.read(golden_folder / "blend")
    member = blend.members[0]
    assert member.recipe is not None
    lora = member.recipe.model_copy(update={"backbone": member.recipe.backbone.model_copy(update={"tuning": "lora"})})
    stages = (Stage(share=1.0, tuning="lora"),)
    stage = member.recipe.model_copy(update={"schedule": member.recipe.schedule.model_copy(update={"stages": stages})})
    boosted = member.recipe.with_overrides({"head.kind": "lightgbm"})
    for recipe, name in ((lora, "peft"), (stage, "peft"), (boosted, "lightgbm")):
        object.__setattr__(member, "recipe", recipe)
        assert name in dict(lacking(blend, HOST - {"lightgbm"}))


def test_the_wheel_of_forage_is_whole(tmp_path: Path) -> None:
    path = wheels.write_own_wheel(tmp_path)
    info = f"{DISTRIBUTION.replace('-', '_')}-{forage_version()}.dist-info"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        rows = list(csv.reader(wheel.read(f"{info}/RECORD").decode().splitlines()))
        assert {row[0] for row in rows} == names
        for name, digest, size in rows[:-1]:
            content = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(content)))
        assert b"forage = forage.cli:main" in wheel.read(f"{info}/entry_points.txt")
    assert {"forage/cli.py", "forage/bundling/inference.ipynb", "search_spaces/presets/feature_ridge.yaml"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_has_metadata_in_the_folder_of_a_checkout_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There Python finds the egg-info of an editable installation first."""
    egg = tmp_path / "checkout" / f"{DISTRIBUTION.replace('-', '_')}.egg-info"
    egg.mkdir(parents=True)
    (egg / "PKG-INFO").write_text(f"Metadata-Version: 2.4\nName: {DISTRIBUTION}\nVersion: 7.0\n")
    monkeypatch.syspath_prepend(egg.parent)
    with zipfile.ZipFile(wheels.write_own_wheel(tmp_path)) as wheel:
        assert b"Version: 7.0" in wheel.read(f"{egg.stem}-7.0.dist-info/METADATA")


@pytest.mark.heavy
def test_predicting_imports_nothing_that_only_training_needs(golden_folder: Path, tmp_path: Path) -> None:
    code = (
        "import json, sys, forage\n"
        "predictions = forage.load_blend(sys.argv[1] + '/blend').predict(sys.argv[1] + '/data')\n"
        "forage.write_submission(sys.argv[2], predictions, sys.argv[1] + '/data')\n"
        f"print(json.dumps(sorted(set({TRAINING!r}) & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(golden_folder), str(tmp_path / "s.csv")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert (tmp_path / "s.csv").stat().st_size
