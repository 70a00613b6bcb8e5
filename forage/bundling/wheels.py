"""The wheels of a bundle: forage's own, packed from the code that runs, and those of other packages, downloaded."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from pasture.errors import InputError, JobError
from trainables.recipe.versions import DISTRIBUTION

PACKAGES: Final = ("pasture", "trainables", "search_spaces", "tune", "ensemble", "forage")
_PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "linux_x86_64")
"""What wheels for a notebook host may be built for, beside those for any platform."""
_METADATA: Final = ("entry_points.txt", "licenses/LICENSE", "top_level.txt")
_FORMAT: Final = "Wheel-Version: 1.0\nGenerator: forage\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_own_wheel(folder: Path) -> Path:
    """Write the wheel of the forage that runs, from a checkout or an installation, without a build tool.

    Raises:
        InputError: forage runs from a folder without having been installed, so that its metadata are missing.
    """
    try:
        installed = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        raise InputError(
            f"{DISTRIBUTION} is not installed, so no wheel of it can be made; run `pip install .` in its folder"
        ) from None
    stem = f"{DISTRIBUTION.replace('-', '_')}-{installed.version}"
    info, records = f"{stem}.dist-info", []
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in (*_code(), *_metadata(installed, info), (f"{info}/WHEEL", _FORMAT.encode())):
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f"{name},sha256={digest},{len(content)}\n")
        wheel.writestr(f"{info}/RECORD", "".join([*records, f"{info}/RECORD,,\n"]))
    return path


def download(packages: Sequence[tuple[str, str]], folder: Path, python: str | None) -> list[Path]:
    """Download the wheels of some packages with pip, from the registry that it is configured for.

    Args:
        packages: names and versions.
        folder: where the wheels go.
        python: version of Python on the host, such as "3.12"; None for the one that runs.

    Raises:
        InputError: this Python has no pip.
        JobError: a wheel cannot be had, naming it.
    """
    if not packages:
        return []
    before, on_host = set(folder.glob("*.whl")), python or f"{sys.version_info.major}.{sys.version_info.minor}"
    words = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    words += ["--python-version", on_host, *(word for platform in _PLATFORMS for word in ("--platform", platform))]
    words += ["--dest", str(folder), *(f"{name}=={version}" for name, version in packages)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    if "No module named pip" in done.stderr:
        raise InputError("this Python has no pip, which downloads the wheels; run `python -m ensurepip`")
    if done.returncode:
        # pip's own words are left out: they may name the address of a private registry.
        missing = re.findall(r"No matching distribution found for (\S+)", done.stderr)
        wheel = missing[0] if missing else ", ".join(f"{name}=={version}" for name, version in packages)
        raise JobError(
            f"pip cannot get a wheel of {wheel} for Python {on_host} on Linux x86-64; check the connection and "
            "--python-version, or leave out with --without what the host has"
        )
    return sorted(set(folder.glob("*.whl")) - before)


def _code() -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of the packages that run."""
    root = Path(__file__).parents[2]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _metadata(installed: Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    # In the folder of a checkout Python finds its egg-info first, whose metadata are in PKG-INFO.
    yield f"{info}/METADATA", (installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "").encode()
    for name in _METADATA:
        if (text := installed.read_text(name)) is not None:
            yield f"{info}/{name}", text.encode()
