"""Running the sweeps of an outer cross-validation: one run directory each, and none twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forage.outer_cv.strategies import Sweep
from pasture.dataset import Dataset
from pasture.errors import InputError, JobError
from pasture.run_folder import RunFolder
from tune.cluster.connection import Connection, RayConnection
from tune.cluster.ray_health import end_process
from tune.records.plan import Plan
from tune.session import Outcome
from tune.sweep import launch, resume


@dataclass(frozen=True)
class OuterRun:
    """A finished sweep without some dates.

    Attributes:
        run: its run directory.
        sweep: name of its kind.
        seed: of the search and of the deal of dates.
        outer: the dates that it has not seen.
        seconds: computed by each trial, by name.
        start: names of the trials of the space's start portfolio.
    """

    run: RunFolder
    sweep: str
    seed: int
    outer: tuple[str, ...]
    seconds: dict[str, float]
    start: frozenset[str]


class Stopped(Exception):  # noqa: N818 - not an error: the user stopped the command
    """A sweep was stopped by a signal."""


def run_sweeps(
    out: Path,
    dataset: Dataset,
    kinds: Sequence[Sweep],
    groups: Sequence[Sequence[tuple[str, ...]]],
    say: Callable[[str], None],
) -> Iterator[OuterRun]:
    """Run every kind of sweep for every seed and group of dates, or take what an earlier call has finished.

    Args:
        out: folder of the run directories.
        dataset: labelled images; sweeps read its folder.
        kinds: of sweeps.
        groups: for every seed, the groups of dates.
        say: receives a line before each sweep.

    Raises:
        InputError: a run directory in `out` was made with other options, or a group leaves too few dates.
        JobError: a sweep ended without a complete trial, or Ray or the disk fails.
        Stopped: by a signal. What is finished is kept.
    """
    for kind in kinds:
        _check_folds(kind, dataset, groups)
    total = len(kinds) * sum(map(len, groups))
    number = 0
    with ExitStack() as stack:
        ray = _OneRay(stack)
        for seed, splits in enumerate(groups):
            for split, outer in enumerate(splits):
                for kind in kinds:
                    number += 1
                    run = RunFolder(out / f"seed{seed}-split{split}-{_slug(kind.name)}")
                    say(f"[{number}/{total}] {run.name}: without {len(outer)} date(s)")
                    yield _finished(run, dataset.root, kind, seed, outer, ray)


def _check_folds(kind: Sweep, dataset: Dataset, groups: Sequence[Sequence[tuple[str, ...]]]) -> None:
    """Check that the dates left by every group can be split into the folds of every recipe."""
    for outer in (group for splits in groups for group in splits):
        rest = dataset.hold_out(outer)
        for recipe in kind.space.variants("validation"):
            recipe.validation.assign(rest)


class _OneRay:
    """Connects to Ray when the first sweep needs it and stays connected until the stack is closed.

    Ends the process if Ray dies.
    """

    local = True
    on_loss = staticmethod(end_process)

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.connected = stack, False

    @contextmanager
    def open(self) -> Iterator[None]:
        if not self.connected:
            self.stack.enter_context(RayConnection().open())
            self.connected = True
        yield


def _finished(run: RunFolder, data: Path, kind: Sweep, seed: int, outer: tuple[str, ...], ray: Connection) -> OuterRun:
    limits = kind.limits.model_copy(update={"outer": outer})
    if run.folder.exists("sweep.yaml"):
        _check_same(run, {**limits.model_dump(mode="json"), "space": kind.space.to_dict(), "search": kind.search})
        outcome = resume(run, connection=ray)
    else:
        outcome = launch(run, data, kind.space, limits, search=kind.search, seed=seed, connection=ray)
    if outcome.stopped_by == "signal":
        raise Stopped
    _check_complete(outcome)
    _delete_weights(run)
    records = outcome.ledger.records.values()
    seconds = {record.name: sum(report["seconds"] for report in record.curve) for record in records}
    start = frozenset(record.name for record in records if record.origin == "start")
    return OuterRun(run, kind.name, seed, outer, seconds, start)


def _check_same(run: RunFolder, wanted: dict[str, Any]) -> None:
    plan = Plan.read(run).to_dict()
    # Through JSON, as sweep.yaml has lists where a space may have tuples.
    differing = [key for key, value in wanted.items() if _plain(plan[key]) != _plain(value)]
    if differing:
        raise InputError(f"{run}: made with another {differing[0]}; choose another --out, or the same options")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _check_complete(outcome: Outcome) -> None:
    if not outcome.ledger.with_status("COMPLETE"):
        failed = outcome.ledger.with_status("FAILED")
        reason = f"; the first error: {failed[0].error}" if failed else ""
        raise JobError(f"{outcome.run}: no trial was complete{reason}")


def _delete_weights(run: RunFolder) -> None:
    """The predictions for outer dates are written; the weights of dozens of sweeps would fill the disk."""
    for path in run.folder.sizes():
        if path.startswith("weights/"):
            run.folder.delete(path)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", Path(name).stem)
