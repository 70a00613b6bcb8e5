"""Send forage's own packages to the nodes of a cluster, by Ray's runtime environment."""

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
    """A runtime environment with the forage of this process; Ray reads it while the context lasts.

    The metadata of the distribution is included, so that the version and the requirements that are checked on a node
    are those of the code it was sent. On the nodes both take precedence over installed packages.
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
        # PKG-INFO if the project's folder, with the metadata of its build, precedes the installed package.
        description = this.read_text("METADATA") or this.read_text("PKG-INFO")
        assert description is not None
        (information / "METADATA").write_text(description)
        yield {"py_modules": [str(path) for path in sorted(Path(scratch).iterdir())]}
