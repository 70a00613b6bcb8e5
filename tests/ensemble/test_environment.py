"""A blend folder in an environment of its own, in which Ray and Optuna are not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.blend.blend import Blend
from ensemble.prediction.predict import predict
from pasture.dataset import read_test

ROOT = Path(__file__).parents[2]
ABSENT = ("ray", "optuna")

COMMAND = """
import json, sys
opened, unpickled = [], []

def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(str(arguments[0]))
    elif event == "pickle.find_class":
        unpickled.append(".".join(map(str, arguments)))

sys.addaudithook(audit)
out, words = sys.argv[1], sys.argv[2:]
sys.argv = ["forage", *words]
from forage.cli import main
try:
    main()
finally:
    with open(out, "w") as stream:
        json.dump({"opened": opened, "unpickled": unpickled, "forage": sys.modules["forage"].__file__}, stream)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with links to all that is installed here but Ray and Optuna."""
    env = tmp_path_factory.mktemp("env") / "bare"
    venv.EnvBuilder(symlinks=True).create(env)
    packages = next(env.glob("lib/python*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        project = entry.name.split("-")[0].lower()
        if project not in ABSENT and not entry.name.startswith("__editable__") and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    (packages / "forage_here.pth").write_text(f"{ROOT}\n")
    return env / "bin" / "python"


@pytest.mark.slow
def test_a_blend_predicts_where_neither_ray_nor_optuna_is_installed(
    python: Path, blend: Blend, paddocks: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    folder = shutil.copytree(blend.folder, tmp_path / "blend")
    run = {"capture_output": True, "text": True, "timeout": 300, "check": False, "env": environment, "cwd": tmp_path}
    for name in ABSENT:
        said = subprocess.run([python, "-c", f"import {name}"], **run)  # type: ignore[call-overload]
        assert f"No module named '{name}'" in said.stderr
    words = ["predict", folder, paddocks, "--out", tmp_path / "s.csv", "--uncertainty", tmp_path / "u.csv"]
    command = [python, "-c", COMMAND, tmp_path / "audit.json", *words]
    said = subprocess.run(command, **run)  # type: ignore[call-overload]
    assert said.returncode == 0, said.stderr

    expected = predict(blend, read_test(paddocks))
    written = pd.read_csv(tmp_path / "u.csv")["target"].to_numpy().reshape(-1, 5)
    np.testing.assert_allclose(written, expected, rtol=2e-3, atol=2e-3)
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert Path(audit["forage"]).parents[1] == ROOT
    loaded = {Path(path).suffix for path in audit["opened"] if path.startswith(str(folder))}
    assert {".json", ".yaml"} <= loaded <= {".safetensors", ".json", ".yaml", ".parquet"}
    assert audit["unpickled"] == []
    kept = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kept == {".safetensors", ".json", ".yaml", ".parquet", ".npz"}  # evidence.npz, for the report
    assert sys.prefix not in str(python)
