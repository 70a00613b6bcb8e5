"""Versions that a result depends on."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version

from pasture.errors import InputError

_PACKAGES = ("forage", "torch", "timm", "albumentations", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Package to version, with Python's."""
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}


def check_version(drivers: str) -> None:
    """Refuse to work for a driver of another version: what it asks for may mean something else here.

    Raises:
        InputError: naming this machine and both versions.
    """
    if (here := _version()) != drivers:
        raise InputError(f"{platform.node()} has forage {here}, the driver has {drivers}; install the same on both")


@lru_cache(maxsize=1)
def _version() -> str:
    return version("forage")
