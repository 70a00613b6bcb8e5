"""A result says what made it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from pasture.errors import InputError
from trainables.recipe.versions import check_machine, versions


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["python"].split(".")[:2] == [str(sys.version_info.major), str(sys.version_info.minor)]
    assert json.loads(json.dumps(found)) == found


def test_a_machine_that_lacks_libraries_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    check_machine(versions()["forage"])
    needed = ["torch>=2.11", "ray[tune]>=2.59", "no-such_library<3", 'neither-this; extra == "dev"', "nor.this>=1"]
    monkeypatch.setattr("trainables.recipe.versions.requires", lambda _: needed)
    with pytest.raises(InputError, match=r" lacks no-such_library, nor\.this; install what forage [\d.]+ needs there"):
        check_machine(versions()["forage"])
