"""The examples: scripts and a notebook in one process with one Ray, another notebook in a live kernel."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

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
os.environ |= {"FILES": "none", "DATA": "data", "OUT": "offline"}
names = {}
for cell in json.loads((examples / "offline_training.ipynb").read_text())["cells"]:
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
def test_scripts_and_a_notebook(program: Callable[..., Any], tmp_path: Path) -> None:
    process = program(sys.executable, "-c", DRIVER, EXAMPLES, tmp_path)
    assert process.wait(400) == 0, process.err[-3000:]
    assert "complete: 2 -> 3" in process.out
    assert "own-own" in process.out
    runs = {path.name for path in (tmp_path / "runs").iterdir()}
    assert runs == {"sweep", "own"}
    for name in ("submission.csv", "offline/submission.csv"):
        _check_submission(tmp_path / name, tmp_path / "data")


@pytest.mark.slow
def test_a_live_kernel_shows_the_progress_of_a_sweep_and_survives_it(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "first_sweep.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()  # raises if a cell fails or the kernel dies
    (launch,) = (cell for cell in notebook.cells if "forage.launch(" in cell.source)
    tables = [output["data"]["text/html"] for output in launch.outputs if output.output_type == "display_data"]
    assert len(tables) == 1, "one table, updated in place"
    assert "notebook: 2 of 2 trials" in tables[0]
    _check_submission(tmp_path / "submission-notebook.csv", tmp_path / "data-notebook")


def _check_submission(file: Path, data: Path) -> None:
    written = pd.read_csv(file)
    assert len(written) == len(pd.read_csv(data / "sample_submission.csv"))
    assert written["target"].ge(0).all()
