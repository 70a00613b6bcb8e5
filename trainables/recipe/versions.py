"""Versions that a result depends on."""

from __future__ import annotations

import platform
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from pasture.errors import InputError

DISTRIBUTION: Final = "pasture-forage"
"""Name under which forage is installed; `forage` on the public index is another project."""

_PACKAGES: Final = ("torch", "timm", "albumentations", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Package to version, with Python's."""
    return {
        "python": platform.python_version(),
        "forage": forage_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def check_version(drivers: str) -> None:
    """Refuse to work for a driver of another version, whose jobs may mean something else here.

    Raises:
        InputError: naming this machine and both versions.
    """
    if (here := forage_version()) != drivers:
        raise InputError(f"{platform.node()} has forage {here}, the driver has {drivers}; install the same on both")


def check_machine(drivers: str) -> None:
    """Refuse to work with another version, or on a machine that has the code but lacks libraries that it needs.

    Raises:
        InputError: naming this machine and what is wrong with it.
    """
    check_version(drivers)
    needed = [re.split(r"[^\w.-]", text)[0] for text in requires(DISTRIBUTION) or [] if "extra ==" not in text]
    if lacking := [name for name in needed if not _installed(name)]:
        raise InputError(f"{platform.node()} lacks {', '.join(lacking)}; install what forage {drivers} needs there")


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


@lru_cache(maxsize=1)
def forage_version() -> str:
    """The version of forage that this process runs."""
    return version(DISTRIBUTION)
