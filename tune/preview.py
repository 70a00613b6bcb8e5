"""Proposals of a sweep, without starting it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pasture.run_folder import RunFolder
from search_spaces.space import Space
from tune.records.ledger import Ledger, Record
from tune.records.plan import Limits, Search
from tune.search.optuna_searcher import OptunaSearcher
from tune.sweep import check_launch


def proposals(
    run: RunFolder, data: Path, space: Space, limits: Limits, *, search: Search = "optuna", seed: int = 0
) -> list[Record]:
    """The trials that a sweep proposes as long as none has ended, in their order. Starts no Ray and writes nothing.

    A sweep with the same arguments begins with the same trials. As soon as trials end, its later proposals also depend
    on their results, and so do those of a warm start on the results of the earlier run.

    Args:
        run, data, space, limits, search, seed: as of `tune.sweep.launch`.

    Raises:
        InputError: what `launch` would refuse before it starts Ray.
    """
    space, _ = check_launch(run, data, space, limits)
    with tempfile.TemporaryDirectory(prefix="forage-proposals-") as scratch:
        ledger = Ledger(RunFolder(scratch))
        searcher = OptunaSearcher(
            space,
            ledger,
            lambda record: {"trial": record.name},
            trials=limits.trials,
            search=search,
            seed=seed,
            starts=space.starts() if limits.start or limits.warm_start else (),
        )
        while searcher.suggest("") != searcher.FINISHED:
            pass
    return list(ledger.records.values())
