"""Strategies of search side by side, on sweeps that are replayed from a table of trained recipes.

    forage tabulate data/csiro --recipes 500 --splits 4 --out table.parquet
    python -m benchmarks.replay table.parquet --seeds 30

For every seed and split each strategy searches on a simulated clock. What is complete when all trials together have
computed for a budget is blended and scored on the outer dates of the split. Printed: R2 over the outer dates of all
splits, the mean over seeds with its standard error, for budgets in units of one whole trial (mean over the table); the
difference to `forage`, paired by seed; and how busy one driver keeps many workers.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, get_args

import numpy as np
from ray.tune.schedulers import HyperBandForBOHB

from benchmarks.ray_bohb import BohbSearcher, missing_packages
from benchmarks.ray_hyperband import RandomSearcher, RayHyperBand
from benchmarks.ray_search import RaySearch
from ensemble.weighting.options import DEFAULT_METHOD, MethodName
from forage.replay.blend import complete, outer_loss, pooled_r2
from forage.replay.forage_search import ForageSearch
from forage.replay.simulate import Simulated, Strategy, simulate
from forage.replay.table import Split, Table
from pasture.targets import Array
from tune.records.plan import Limits, Objective, Pruner, Search

BUDGETS: Final = (4, 8, 16, 32, 64)
WORKERS: Final = (1, 8, 64, 512, 4096)
OURS: Final = "forage"
SEARCH_WORKERS: Final = {"Ray BOHB": 8}
"""Simulated workers of a search; 1 for the others. With one worker a bracket of whole trials never fills in Ray's BOHB:
after the first brackets every trial would be such a one."""

Make = Callable[[Table, Split, int], Strategy]


def strategies(trials: int, pruner: Pruner) -> dict[str, Make]:
    """Name to what makes a strategy for a seed.

    Args:
        trials: at most so many.
        pruner: of `forage`.
    """

    def ours(search: Search, pruner: Pruner, start: bool, objective: Objective = "score") -> Make:
        limits = Limits(trials=trials, pruner=pruner, start=start, objective=objective)
        return lambda table, split, seed: ForageSearch(table, split, limits, search, seed)

    def bohb(table: Table, split: Split, seed: int) -> Strategy:
        return RayHyperBand(table, split, trials, BohbSearcher(table.space, seed), HyperBandForBOHB)

    return {
        OURS: ours("optuna", pruner, True),
        **{f"forage, --pruner {other}": ours("optuna", other, True) for other in get_args(Pruner) if other != pruner},
        "forage, score-per-second": ours("optuna", pruner, True, "score-per-second"),
        "random after start": ours("random", "none", True),
        "random": ours("random", "none", False),
        "random + ASHA": ours("random", "asha", False),
        "Ray OptunaSearch + ASHA": lambda table, split, seed: RaySearch(table, split, trials, seed),
        "Ray Hyperband": lambda table, split, seed: RayHyperBand(
            table, split, trials, RandomSearcher(table.space, seed)
        ),
        **({} if missing_packages() else {"Ray BOHB": bohb}),
    }


def main() -> None:
    """Print the tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="written by `forage tabulate`")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--method", choices=get_args(MethodName), default=DEFAULT_METHOD, help="how blends are chosen")
    parser.add_argument("--pruner", choices=get_args(Pruner), default="asha", help="of forage")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="in whole trials")
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS, help="whose efficiency is measured")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    table = Table.read(arguments.table)
    if missing := missing_packages():
        print(
            f"Ray BOHB is left out: {' and '.join(missing)} not installed; pip install '.[bohb]' adds it.",
            file=sys.stderr,
        )
    scores = search_scores(table, arguments.seeds, arguments.budgets, arguments.method, arguments.pruner)
    busy = {count: efficiency(table, count) for count in arguments.workers}
    if arguments.json:
        print(json.dumps({"scores": {k: v.tolist() for k, v in scores.items()}, "efficiency": busy}))
        return
    print(score_table(scores, arguments.budgets))
    if busy:
        print("\n" + efficiency_table(busy))


def unit(table: Table) -> float:
    """Seconds of one whole trial, the mean over the table."""
    return float(np.mean([t.seconds.sum() for split in table.splits for t in split.trained if t is not None]))


def search_scores(
    table: Table, seeds: int, budgets: Sequence[int], method: MethodName, pruner: Pruner = "asha"
) -> dict[str, Array]:
    """(seeds, budgets) R2 of every strategy over the outer dates of all splits; NaN where no trial was complete."""
    seconds = [budget * unit(table) for budget in budgets]
    result = fixed_pools(table, len(budgets), method)
    for name, make in strategies(len(table.entries), pruner).items():
        rows = []
        for seed in range(seeds):
            workers = SEARCH_WORKERS.get(name, 1)
            runs = [simulate(make(table, split, seed), split, workers, seconds=max(seconds)) for split in table.splits]
            rows.append([_score(table, runs, at, method) for at in seconds])
            print(f"{name}: seed {seed}", end="\r", file=sys.stderr, flush=True)
        result[name] = np.array(rows)
    print(" " * 60, end="\r", file=sys.stderr)
    return result


def fixed_pools(table: Table, budgets: int, method: MethodName) -> dict[str, Array]:
    """(1, budgets) R2 of what needs no search: the first start recipe, and the plain mean of all of them."""
    start = [number for number, entry in enumerate(table.entries) if entry.start]
    pools: dict[str, tuple[list[int], MethodName]] = {
        "one recipe": (start[:1], "uniform"),
        "start portfolio, plain mean": (start, "uniform"),
        f"start portfolio, {method}": (start, method),
    }
    result = {}
    for name, (numbers, how) in pools.items():
        losses = [outer_loss(table, split, numbers, how) for split in table.splits]
        result[name] = np.full((1, budgets), pooled_r2(table.splits, losses))
    return result


def _score(table: Table, runs: Sequence[Simulated], seconds: float, method: MethodName) -> float:
    pools = [complete(run, seconds) for run in runs]
    if not all(pools):
        return math.nan
    losses = [outer_loss(table, split, pool, method) for split, pool in zip(table.splits, pools, strict=True)]
    return pooled_r2(table.splits, losses)


def efficiency(table: Table, workers: int) -> dict[str, float]:
    """How busy so many workers are while one driver searches, its decisions timed as they are made.

    Random search, so that the cost of a decision does not grow with the number of trials; 4 trials a worker (at most
    2,000 in all). Ray's own cost of a trial (about 20 ms, see benchmarks/harness.py) is not in it.
    """
    split = table.splits[0]
    trials = min(4 * workers, 2000)
    strategy = ForageSearch(table, split, Limits(trials=trials, pruner="none", start=False), "random", 0)
    run = simulate(strategy, split, workers, driver=True)
    busy = min(workers, trials)
    return {
        "trials": trials,
        "efficiency": run.seconds / (busy * run.makespan),
        "driver_ms_a_trial": 1e3 * run.driver_seconds / trials,
        "trial_seconds": run.seconds / trials,
        "most_workers": run.seconds / run.driver_seconds,
    }


def score_table(scores: dict[str, Array], budgets: Sequence[int]) -> str:
    """R2 by budget, and differences to forage at the largest."""
    ours = scores[OURS]
    header = ["strategy", *(f"{budget} trials" for budget in budgets), f"minus {OURS}, at {budgets[-1]}"]
    rows = [header, ["---"] * len(header)]
    for name, values in scores.items():
        difference = values[:, -1] - ours[:, -1]
        rows.append(
            [name, *(_mean(values[:, i]) for i in range(len(budgets))), "" if name == OURS else _mean(difference)]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def efficiency_table(busy: dict[int, dict[str, float]]) -> str:
    """A row for each number of workers."""
    header = (
        "| workers | trials | efficiency | driver, ms a trial | seconds a trial | most workers one driver keeps busy |"
    )
    rows = [header, "|---|---|---|---|---|---|"]
    for workers, row in busy.items():
        rows.append(
            f"| {workers} | {row['trials']:.0f} | {row['efficiency']:.2f} | {row['driver_ms_a_trial']:.1f} | "
            f"{row['trial_seconds']:.1f} | {row['most_workers']:.0f} |"
        )
    return "\n".join(rows)


def _mean(values: Array) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "-"
    error = f" ± {known.std(ddof=1) / math.sqrt(len(known)):.4f}" if len(known) > 1 else ""
    return f"{known.mean():.4f}{error}"


if __name__ == "__main__":
    main()
