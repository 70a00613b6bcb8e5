"""A result says what made it."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from trainables.versions import versions


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["python"].split(".")[:2] == [str(sys.version_info.major), str(sys.version_info.minor)]
    assert json.loads(json.dumps(found)) == found
