"""The cost of scheduling a trial: forage's sweep against bare Ray Tune, in one Ray session that is already up.

Both run a class trainable that computes nothing, in processes that are reused (`reuse_actors`). forage draws recipes at
random from a space, runs them with its pruner and writes its ledger; bare Ray Tune draws two numbers at random, once
with its defaults (loggers, snapshots), once without what forage turns off. The second kind of rows has trials with many
reports; none is pruned, since all do equally well.

What is measured is CPU time of the driver's process, which other work on the machine disturbs less than wall time; the
runs take turns. A trial's cost includes its share of the start of a sweep, where forage checks data and recipes. A
report's cost is the difference between trials of many reports and of one. Takes less than three minutes where trials
need not wait for a core.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from unittest import mock

import ray
import ray.tune

from benchmarks.table import Options, Row, main
from benchmarks.trivial import TrivialTrial
from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from search_spaces.space import Space
from tune.cluster.connection import ExistingRay, RayConnection
from tune.records.ledger import Record
from tune.records.plan import Limits, Search
from tune.session import ignore
from tune.sweep import launch

BASE = {
    "view": {"kind": "whole", "size": 32},
    "backbone": {"name": "test_efficientnet", "weights": "none"},
    "validation": {"folds": 2},
}
TURNED_OFF = ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "TUNE_GLOBAL_CHECKPOINT_S")
"""What `tune.cluster.connection` sets against Ray's default loggers and snapshots."""
RATES = (1e-4, 1e-1)


def measure(options: Options) -> Iterator[Row]:
    """Rows for a trial and for a report, against Ray Tune with and without loggers and snapshots."""
    trials, reports = (4, 4) if options.quick else (64, 128)
    with session() as scratch:
        cpu = driver_cpu(scratch, {"trials": (trials, 1), "reports": (2, reports + 1), "start": (2, 1)})
    ways = {way for way, _ in cpu}
    trial = {way: cpu[way, "trials"] / trials for way in ways}
    report = {way: (cpu[way, "reports"] - cpu[way, "start"]) / (2 * reports) for way in ways}
    for way, other in (("bare", "bare Ray Tune"), ("lean", "bare Ray Tune, no loggers, no snapshots")):
        for what, unit, cost, goal in (
            (f"{trials} trivial trials", "trial", trial, 1.5),
            (f"{2 * reports} reports of trivial trials", "report", report, 1.0),
        ):
            yield Row(
                f"harness, {what}, driver's CPU",
                f"{1e3 * cost['forage']:.2f} ms a {unit}",
                f"{1e3 * cost[way]:.2f} ms a {unit} ({other})",
                cost["forage"] / cost[way],
                "harness",
                at_most=goal,
            )


def driver_cpu(scratch: Path, loads: dict[str, tuple[int, int]]) -> dict[tuple[str, str], float]:
    """CPU seconds of the driver for (forage, bare and lean Ray Tune, by turns) and each load.

    Args:
        scratch: of `session`.
        loads: name to the number of trials and of the reports of each.
    """
    ways: dict[str, Callable[[int, int], None]] = {
        "forage": lambda trials, epochs: forage(scratch, trials, epochs),
        "bare": lambda trials, epochs: bare(scratch, trials, epochs),
        "lean": lambda trials, epochs: bare(scratch, trials, epochs, lean=True),
    }
    for way in ways.values():
        way(2, 2)  # imports, and Ray's first worker
    return {
        (name, load): cpu_seconds(partial(way, trials, epochs))
        for load, (trials, epochs) in loads.items()
        for name, way in ways.items()
    }


def cpu_seconds(do: Callable[[], None]) -> float:
    """CPU time of this process during a call."""
    start = time.process_time()
    do()
    return time.process_time() - start


@contextmanager
def session() -> Iterator[Path]:
    """Ray on this machine, and a scratch folder with a data folder inside."""
    with tempfile.TemporaryDirectory(prefix="fbench-", ignore_cleanup_errors=True) as name:
        make_data(Path(name, "data"), images=8, width=64, height=64)
        with RayConnection().open():
            yield Path(name)


def forage(
    scratch: Path,
    trials: int,
    epochs: int,
    search: Search = "random",
    watch: Callable[[Record], None] = ignore,
) -> None:
    """A sweep of trivial trials, from the launch to the last line of its ledger."""
    space = Space.parse(
        {
            "base": BASE | {"schedule": {"epochs": epochs}},
            "search": {"optimizer.head_lr": {"log_uniform": [*RATES]}, "head.dropout": {"uniform": [0.0, 0.5]}},
        }
    )
    run = RunFolder(tempfile.mkdtemp(dir=scratch))
    with redirect_stderr(StringIO()):
        outcome = launch(
            run,
            scratch / "data",
            space,
            Limits(trials=trials),
            search=search,
            connection=ExistingRay(),
            trainable=TrivialTrial,
            watch=watch,
        )
    ended = len(outcome.ledger.with_status("COMPLETE", "PRUNED"))
    if ended != trials:
        raise AssertionError(f"{ended} of {trials} trials came to an end")


def bare(scratch: Path, trials: int, epochs: int, lean: bool = False) -> None:
    """The same by Ray Tune alone; `lean` keeps what forage turns off turned off."""
    with mock.patch.dict(os.environ):
        if not lean:
            for name in TURNED_OFF:
                os.environ.pop(name, None)
        _tune(scratch, trials, epochs)


def _tune(scratch: Path, trials: int, epochs: int) -> None:
    results = ray.tune.Tuner(
        ray.tune.with_resources(TrivialTrial, {"CPU": 1}),
        param_space={
            "recipe": {
                "optimizer": {"head_lr": ray.tune.loguniform(*RATES)},
                "head": {"dropout": ray.tune.uniform(0.0, 0.5)},
                "schedule": {"epochs": epochs},
            }
        },
        tune_config=ray.tune.TuneConfig(num_samples=trials, reuse_actors=True),
        run_config=ray.tune.RunConfig(
            storage_path=tempfile.mkdtemp(dir=scratch),
            verbose=0,
            # As in forage: these trials have no state, and Ray asks a class trainable for a checkpoint at its end.
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    if len(results) != trials or results.errors:
        raise AssertionError(f"bare Ray Tune: {len(results)} of {trials} trials, {len(results.errors)} errors")


if __name__ == "__main__":
    main(measure, __doc__ or "")
