"""The examples: scripts and notebooks run one after the other, in one process that is connected to one Ray."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = [*sorted(EXAMPLES.glob("*.ipynb")), EXAMPLES.parent / "forage" / "bundling" / "inference.ipynb"]

DRIVER = """
import json, os, pathlib, runpy, sys
import ray
examples = pathlib.Path(sys.argv[1])
os.chdir(sys.argv[2])
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
for script in ("sweep", "resume", "own_model"):
    sys.argv = [script]
    runpy.run_path(str(examples / f"{script}.py"), run_name="__main__")
os.environ |= {"FILES": "none", "DATA": "data-notebook", "OUT": "offline"}
for notebook in ("first_sweep", "offline_training"):
    names = {}
    for cell in json.loads((examples / f"{notebook}.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
assert ray.is_initialized()
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_well_formed(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        expected = {"cell_type", "id", "metadata", "source"}
        expected |= {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == expected
        assert not cell.get("outputs")


@pytest.mark.slow
def test_scripts_and_notebooks(program: Callable[..., Any], tmp_path: Path) -> None:
    process = program(sys.executable, "-c", DRIVER, EXAMPLES, tmp_path)
    assert process.wait(400) == 0, process.err[-3000:]
    assert "complete: 2 -> 3" in process.out
    assert "own-own" in process.out
    runs = {path.name for path in (tmp_path / "runs").iterdir()}
    assert runs == {"sweep", "own", "notebook"}
    asked = pd.read_csv(tmp_path / "data" / "sample_submission.csv")
    for name in ("submission.csv", "submission-notebook.csv", "offline/submission.csv"):
        written = pd.read_csv(tmp_path / name)
        assert len(written) == len(asked)
        assert written["target"].ge(0).all()
