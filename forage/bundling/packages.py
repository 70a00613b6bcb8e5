"""Which packages a blend needs to predict, and which of them the notebook host lacks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from ensemble.blend.blend import Blend
from pasture.errors import InputError
from trainables.recipe.versions import DISTRIBUTION

HOST: Final = frozenset(
    {
        "accelerate",
        "catboost",
        "filelock",
        "huggingface-hub",
        "lightgbm",
        "numpy",
        "opencv-python-headless",
        "packaging",
        "pandas",
        "pillow",
        "psutil",
        "pyarrow",
        "pydantic",
        "pyyaml",
        "rich",
        "safetensors",
        "scikit-learn",
        "scipy",
        "torch",
        "torchvision",
        "tqdm",
        "transformers",
        "typer",
    }
)
"""Packages that Kaggle's image of notebooks has. `forage bundle --without` and `--with` change the list."""

_TRAINING: Final = frozenset({"albumentations", "optuna", "plotly", "ray"})
"""Requirements of forage that prediction never imports."""


def lacking(blend: Blend, host: Collection[str]) -> list[tuple[str, str]]:
    """Name and version of every package that the blend needs and the host lacks, by name.

    The requirements of forage are followed through the packages installed here, and not below a package that the host
    has. The versions are those installed here: the blend was built with them.

    Args:
        blend: whose members decide whether peft and the boosting libraries are needed.
        host: normalised names of the packages that the host has.

    Raises:
        InputError: forage or a package that it needs is not installed here.
    """
    found: dict[str, str] = {}
    waiting = sorted(_needed(blend) - set(host))
    while waiting:
        name = waiting.pop()
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise InputError(f"{name} is not installed here, and the blend needs it; pip install {name}") from None
        waiting += [other for other in _requirements(name) if other not in host and other not in found]
    return sorted(found.items())


def normal(name: str) -> str:
    """The normalised name of a package, as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed(blend: Blend) -> set[str]:
    recipes = [member.recipe for member in blend.members if member.recipe]
    names = set(_requirements(DISTRIBUTION)) - _TRAINING - {"peft"}
    if any(recipe.adapted for recipe in recipes):
        names.add("peft")
    return names | ({recipe.head.kind for recipe in recipes} & {"catboost", "lightgbm"})


def _requirements(name: str) -> Iterator[str]:
    """Normalised names of what an installed package requires without extras, as far as it is installed here.

    What is not installed is for other platforms or versions of Python.

    Raises:
        InputError: the package itself is not installed.
    """
    try:
        texts = requires(name) or []
    except PackageNotFoundError:
        raise InputError(f"{name} is not installed here; install forage with pip, then bundle again") from None
    for text in texts:
        other = normal(re.split(r"[^\w.-]", text)[0])
        if not re.search(r"\bextra\s*==", text) and (name == DISTRIBUTION or _installed(other)):
            yield other


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
