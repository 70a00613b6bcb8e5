"""Versions that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version

_PACKAGES = ("forage", "torch", "timm", "albumentations", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Package to version, with Python's."""
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}
