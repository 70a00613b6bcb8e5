"""The code sent to nodes is complete: it can be imported from its copy alone and knows its version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pasture.errors import InputError
from trainables.recipe.versions import forage_version
from tune.cluster.code_shipping import shipped
from tune.cluster.connection import RayConnection

CHECK = """
import forage, pasture, search_spaces, trainables, ensemble, tune.cluster.ray_trial
from search_spaces.catalogue import load_recipe, load_space
from trainables.recipe.versions import check_machine, versions
check_machine(versions()["forage"])
load_space("default"), load_recipe("two_stream")
print(trainables.__file__, versions()["forage"], end="")
"""


@pytest.mark.heavy
def test_shipped_code_is_whole(tmp_path: Path) -> None:
    with shipped() as environment:
        folder = Path(environment["py_modules"][0]).parent
        assert not list(folder.rglob("__pycache__"))
        said = subprocess.run(
            [sys.executable, "-c", CHECK],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )
        assert said.stdout == f"{folder / 'trainables' / '__init__.py'} {forage_version()}", said.stderr
    assert not folder.exists()


def test_no_code_is_shipped_to_this_machine() -> None:
    message = "--ship-code is for the nodes of a cluster: give its --address"
    with pytest.raises(InputError, match=message), RayConnection(ship_code=True).open():
        pass
