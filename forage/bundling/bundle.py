"""Writing a bundle: a blend, wheels, imported embeddings and a notebook, in a folder or a zip file."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ensemble.blend.blend import Blend
from forage.bundling.packages import HOST, lacking, normal
from forage.bundling.wheels import download, write_own_wheel
from pasture.atomic import atomic_file, atomic_folder
from pasture.errors import InputError
from trainables.features import embeddings

NOTEBOOK: Final = Path(__file__).with_name("inference.ipynb")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes:
        path: the folder or zip file.
        wheels: names of the wheel files, forage's own first.
        size: of all its files, in bytes.
        notes: what the notebook still needs from its user.
    """

    path: Path
    wheels: list[str]
    size: int
    notes: list[str]


def write_bundle(
    blend: Blend,
    out: Path,
    *,
    without: Collection[str] = (),
    ship: Collection[str] = (),
    python: str | None = None,
) -> Bundle:
    """Write everything that predicting with a blend needs on a machine without a network.

    Args:
        blend: a blend folder.
        out: folder to write, or a file that ends in .zip; must not exist.
        without: packages that the host has, beside `HOST`.
        ship: packages that the host lacks, although `HOST` names them.
        python: version of Python on the host, such as "3.12"; None for the one that runs.

    Raises:
        InputError: `out` exists, the same package in `without` and `ship`, forage is not installed, pip is missing, or
            imported embeddings of a member are not there.
        JobError: a wheel cannot be downloaded, or the bundle cannot be written.
    """
    without, ship = set(map(normal, without)), set(map(normal, ship))
    if both := sorted(without & ship):
        raise InputError(f"--without {both[0]} and --with {both[0]} contradict each other; give one of them")
    if unknown := sorted(ship - HOST):
        raise InputError(
            f"--with {unknown[0]}: it is shipped in any case if the blend needs it; --with takes what Kaggle has: "
            f"{', '.join(sorted(HOST))}"
        )
    if out.suffix != ".zip":
        return _write_folder(blend, out, (HOST | without) - ship, python)
    if out.exists():
        raise InputError(f"{out} exists; choose another --out, or remove it")
    with tempfile.TemporaryDirectory(prefix="forage-bundle-") as scratch:
        made = _write_folder(blend, Path(scratch) / "bundle", (HOST | without) - ship, python)
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as partial, zipfile.ZipFile(partial, "w") as archive:  # weights do not compress
            for path in sorted(made.path.rglob("*")):
                archive.write(path, path.relative_to(made.path))
    return Bundle(out, made.wheels, made.size, made.notes)


def _write_folder(blend: Blend, out: Path, host: Collection[str], python: str | None) -> Bundle:
    packages, banks = lacking(blend, host), _banks(blend)
    with atomic_folder(out) as partial:
        shutil.copytree(blend.folder, partial / "blend")
        wheels = partial / "wheels"
        wheels.mkdir()
        names = [write_own_wheel(wheels).name, *(path.name for path in download(packages, wheels, python))]
        for bank in banks:
            copy = partial / "cache" / "embeddings" / f"{bank}.safetensors"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(embeddings.folder().file(copy.name), copy)
        shutil.copyfile(NOTEBOOK, partial / NOTEBOOK.name)
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    return Bundle(out, names, size, _notes(blend, banks))


def _banks(blend: Blend) -> list[str]:
    """Imported embeddings that members need, after checking that they are there."""
    banks = sorted({m.recipe.backbone.bank for m in blend.members if m.recipe and m.recipe.backbone.bank})
    for bank in banks:
        embeddings.read(bank)
    return banks


def _notes(blend: Blend, banks: list[str]) -> list[str]:
    notes = [
        f"bank:{bank} has embeddings of the photographs that were imported, and the notebook can predict no others"
        for bank in banks
    ]
    external = [member.key for member in blend.members if member.external]
    return notes + [f"member {key} has no models: name the file of its predictions in GIVEN" for key in external]
