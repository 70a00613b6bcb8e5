"""The notebook of a bundle, run where only the packages of the host list are installed and the network is closed. Slow.

The environment is a new one whose site-packages link to the installed packages of `HOST` and to what these require, and
to pip; installing torch anew would take longer than everything else. forage and timm come from the bundle's wheels.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import forage
from ensemble.blend.blend import Blend
from forage.bundling.packages import HOST

pytestmark = pytest.mark.slow

MAX_SECONDS = 300

DRIVER = """
import json, pathlib, sys
opened, unpickled = [], []

def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(str(arguments[0]))
    elif event == "pickle.find_class":
        unpickled.append(".".join(map(str, arguments)))

sys.addaudithook(audit)
names = {}
for cell in json.loads(pathlib.Path(sys.argv[1]).read_text())["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
facts = {"opened": opened, "unpickled": unpickled, "forage": names["forage"].__file__}
pathlib.Path("audit.json").write_text(json.dumps(facts))
"""

CLOSED = """
import socket
def refuse(*_, **__):
    raise OSError("the network is closed")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
"""sitecustomize.py, for machines where a process cannot have a network of its own."""


def closure(names: Iterable[str]) -> set[str]:
    """The packages and all that they require, as far as they are installed here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            texts = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            waiting += [re.split(r"[^\w.-]", text)[0] for text in texts if "extra ==" not in text]
    return found


def host_python(folder: Path) -> Path:
    """The interpreter of an environment that has what the notebook host has."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in closure({*HOST, "pip"}):
        for file in distribution(name).files or []:
            link = site / file.parts[0]
            if file.parts[0] not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(Path(str(distribution(name).locate_file(file.parts[0]))))
    (site / "sitecustomize.py").write_text(CLOSED)
    return folder / "bin" / "python"


def repack(name: str, folder: Path) -> None:
    """The wheel of an installed package of pure Python."""
    found = distribution(name)
    with zipfile.ZipFile(folder / f"{name}-{found.version}-py3-none-any.whl", "w") as wheel:
        for file in found.files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                wheel.write(str(found.locate_file(file)), file.as_posix())


def closed() -> list[str]:
    """Words before a command that is to have no network, as far as this user may."""
    words = ["unshare", "--map-root-user", "--net"]
    try:
        return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else []
    except FileNotFoundError:
        return []


def test_the_notebook_predicts_without_a_network(
    blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, out, work = (tmp_path / name for name in ("registry", "bundle", "work"))
    registry.mkdir()
    work.mkdir()
    repack("timm", registry)
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(registry)), ("CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(f"PIP_{name}", value)
    forage.load_blend(blend.folder).bundle(out)
    python = host_python(tmp_path / "host")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "FORAGE_"))}
    env |= {"BUNDLE": str(out), "DATA": str(paddocks), "MAX_SECONDS": str(MAX_SECONDS), "OMP_NUM_THREADS": "1"}
    env |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    find = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    absent = ["forage", "timm", "ray", "optuna", "albumentations", "albucore"]
    found = subprocess.run([python, "-c", find, *absent, "torch"], env=env, cwd=work, capture_output=True, text=True)
    assert found.stdout == "['torch']\n", found.stderr
    began = time.monotonic()
    done = subprocess.run(
        [*closed(), python, "-c", DRIVER, out / "inference.ipynb"], cwd=work, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < MAX_SECONDS
    assert re.search(r"3 of 3 members; about \S+ s", done.stderr)
    audit = json.loads((work / "audit.json").read_text())
    assert audit["forage"].startswith(str(tmp_path / "host")), "it came from its wheel"
    assert audit["unpickled"] == []
    loaded = {Path(path).suffix for path in audit["opened"] if path.startswith(str(out / "blend"))}
    assert {".json", ".yaml"} <= loaded <= {".safetensors", ".json", ".yaml", ".parquet"}
    submission = pd.read_csv(work / "submission.csv")
    asked = pd.read_csv(paddocks / "sample_submission.csv")
    assert submission["sample_id"].tolist() == asked["sample_id"].tolist()
    forage.write_submission(tmp_path / "here.csv", forage.load_blend(blend.folder).predict(paddocks), paddocks)
    here = pd.read_csv(tmp_path / "here.csv")
    np.testing.assert_allclose(submission["target"], here["target"], rtol=1e-3, atol=1e-3)
