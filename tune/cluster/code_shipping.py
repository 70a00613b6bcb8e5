"""Forage's own code for nodes that have none of it: its packages, by Ray's runtime environment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainables.recipe.versions import DISTRIBUTION

_PACKAGES = ("pasture", "trainables", "search_spaces", "tune", "ensemble", "forage")


@contextmanager
def shipped() -> Iterator[dict[str, Any]]:
    """A runtime environment with this process' forage; Ray takes it up while the context lasts.

    What describes the distribution goes along: the version that a node is asked for, and the libraries that it must
    have, are those of the code that it has been sent. On the nodes both come before anything installed there.
    """
    this = distribution(DISTRIBUTION)
    with tempfile.TemporaryDirectory(prefix="forage-code-") as scratch:
        for package in _PACKAGES:
            spec = find_spec(package)
            assert spec is not None
            assert spec.origin is not None
            shutil.copytree(
                Path(spec.origin).parent, Path(scratch, package), ignore=shutil.ignore_patterns("__pycache__")
            )
        information = Path(scratch, f"{DISTRIBUTION.replace('-', '_')}-{this.version}.dist-info")
        information.mkdir()
        # The second where the project's folder, and what its build has left there, come before what is installed.
        description = this.read_text("METADATA") or this.read_text("PKG-INFO")
        assert description is not None
        (information / "METADATA").write_text(description)
        yield {"py_modules": [str(path) for path in sorted(Path(scratch).iterdir())]}
