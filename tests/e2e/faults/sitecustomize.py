"""Fault injection: at chosen moments, each once, a process is killed or a disk fills up.

Python imports this module first if its folder is on PYTHONPATH; the product does not know about it. The variable
FORAGE_FAULTS is JSON: `kill` and `fill`, lists of moments; `disk`, the folder that is filled; `marks`, a folder where
each moment leaves a file of its name with the number of the process.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PLAN: dict[str, Any] = json.loads(os.environ.get("FORAGE_FAULTS", "{}"))
FILES = {
    "checkpoint": "checkpoints/t*.pt",
    "weights": "weights/t*/fold1.safetensors",
    "oof": "oof/t*.parquet",
    "record": "trials/t0002.json",
}


def due(moment: str, fault: str) -> bool:
    """Whether the fault is to happen now; true once over all processes."""
    if moment not in PLAN.get(fault, []):
        return False
    try:
        with Path(PLAN["marks"], moment).open("x") as mark:
            mark.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def reached(moment: str) -> None:
    """Let the faults of a moment happen."""
    if due(moment, "kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if due(moment, "fill"):
        with suppress(OSError), Path(PLAN["disk"], "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 4096)


def files(module: Any) -> None:
    """Before a file is written; for a kill, half of it is left under a temporary name."""
    write = module.Folder.write

    def faulty(self: Any, name: str, content: bytes) -> None:
        target = Path(self.path, name)
        for moment, pattern in FILES.items():
            if target.match(pattern) and (moment != "record" or b'"epoch": 3' in content):
                if moment in PLAN.get("kill", []):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.with_name(f".{target.name}.half.tmp").write_bytes(content[: len(content) // 2])
                reached(moment)
        write(self, name, content)

    module.Folder.write = faulty


def before(name: str, moment: str, when: Callable[..., bool]) -> Callable[[Any], None]:
    """Before a call of a function or method `name` for whose arguments `when` is true."""

    def patch(module: Any) -> None:
        *owner, last = name.split(".")
        place = getattr(module, owner[0]) if owner else module
        function = getattr(place, last)

        def called(*args: Any, **kwargs: Any) -> Any:
            if when(*args, **kwargs):
                reached(moment)
            return function(*args, **kwargs)

        setattr(place, last, called)

    return patch


def at_call(number: int) -> Callable[..., bool]:
    """True at the call of that number in this process."""
    calls = iter(range(1, 10**9))
    return lambda *_, **__: next(calls) == number


def checkpoint_always(module: Any) -> None:
    """Write a checkpoint after every epoch: these trials are short."""
    module.CHECKPOINT_SECONDS = 0.0


def write_reports_at_once(module: Any) -> None:
    """Write the record after every report, so that a kill meets an unfinished trial."""
    module.GROUP_SECONDS, module.GROUP_SHARE = 0.0, 1e9


PATCHES: dict[str, Callable[[Any], None]] = {
    "pasture.files": files,
    "trainables.images.array_cache": before("_build", "cache", lambda *_: True),
    "trainables.images.image_cache": before("load_views", "image cache", at_call(7)),
    "trainables.features.feature_bank": before("extract", "feature bank", at_call(2)),
    "trainables.training.learner": before(
        "FoldLearner.train_epoch", "epoch", lambda it, epoch, _: (it.fold, epoch) == (1, 2)
    ),
    "tune.cluster.ray_trial": checkpoint_always,
    "tune.records.ledger": write_reports_at_once,
}


class Finder(importlib.abc.MetaPathFinder):
    """Patches modules as they are imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in PATCHES:
            return None
        patch = PATCHES.pop(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if PLAN:
    for imported in PATCHES.keys() & sys.modules.keys():
        PATCHES.pop(imported)(sys.modules[imported])
    sys.meta_path.insert(0, Finder())
