"""A sweep without Ray: the driver's parts called as Ray Tune calls them, on trials whose scores are a formula."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from search_spaces.space import Space
from tune.bookkeeper import Bookkeeper
from tune.cluster.ray_trial import result_of
from tune.cluster.trial_job import TrialJob
from tune.pruning.promotion import Promotion
from tune.pruning.pruners import make_pruner
from tune.pruning.scheduler import PruningScheduler
from tune.records.ledger import Ledger, Record
from tune.records.plan import Pruner as PrunerName
from tune.records.plan import Search
from tune.records.retention import Retention
from tune.records.stop import Stop
from tune.search.optuna_searcher import OptunaSearcher, Start

EPOCHS = 9
SPACE: dict[str, Any] = {
    "base": {
        "view": {"kind": "whole", "size": 32},
        "backbone": {"name": "resnet18", "weights": "none"},
        "head": {"hidden": [8]},
        "validation": {"folds": 3},
        "schedule": {"epochs": EPOCHS},
    },
    "search": {
        "optimizer.head_lr": {"log_uniform": [1e-4, 1e-1]},
        "head.dropout": {"uniform": [0.0, 0.5]},
        "loss.lds.enabled": {"choice": [False, True]},
        "loss.lds.size": {"integer": [1, 5], "when": {"loss.lds.enabled": True}},  # even sizes are impossible
        "target.transform": {"choice": ["none", "log1p"]},
    },
}


class Killed(BaseException):
    """The driver was killed: no clean-up code may run."""


def _report(epoch: int, score: float, best_epoch: int | None = None) -> dict[str, Any]:
    content = {"score": score, "epoch_score": score, "best_epoch": best_epoch or epoch, "train_loss": 1.0}
    speed = {"seconds": 0.5, "images_per_second": 100.0}
    return {"epoch": epoch, **content, **speed, "date_losses": _date_losses(score)}


def _date_losses(score: float) -> list[float]:
    """Losses on four dates that sum to 1 - score, with differences between scores that vary from date to date."""
    noise = np.sin(1000 * score * np.arange(1, 5)) if math.isfinite(score) else np.zeros(4)
    return [float(loss) for loss in (1 - score) / 4 + 0.05 * (noise - noise.mean())]


def _formula(recipe: dict[str, Any], epoch: int) -> float:
    """Higher for good recipes; curves cross."""
    dropout = float(recipe["head"]["dropout"])
    distance = abs(math.log10(recipe["optimizer"]["head_lr"]) + 2.3) + dropout
    return 1 - distance / 3 - (0.1 + dropout) / epoch


def _fails(recipe: dict[str, Any], epoch: int) -> bool:
    return epoch == 3 and recipe["optimizer"]["head_lr"] > 0.03


@pytest.fixture
def report() -> Callable[..., dict[str, Any]]:
    """`report(epoch, score)`: what a trial says after an epoch."""
    return _report


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run directory that does not exist yet."""
    return RunFolder(tmp_path / "run")


@pytest.fixture
def space() -> Space:
    """A small space with a condition and an impossible combination."""
    return Space.parse(SPACE)


@pytest.fixture
def make_searcher(space: Space) -> Callable[..., OptunaSearcher]:
    """`make_searcher(run, search="optuna", seed=0, trials=100, space=..., **options)`, from the ledger on disk."""
    default = space

    def make(
        run: RunFolder,
        search: Search = "optuna",
        seed: int = 0,
        trials: int = 100,
        space: Space = default,
        **options: Any,
    ) -> OptunaSearcher:
        def configure(record: Record) -> dict[str, Any]:
            job = TrialJob(str(run), "data", "fingerprint", "1.0", record.name, json.dumps(record.recipe), {"CPU": 1.0})
            return replace(job, reported=len(record.curve), origin=record.origin).to_config()

        return OptunaSearcher(space, Ledger(run), configure, trials=trials, search=search, seed=seed, **options)

    return make


@pytest.fixture
def starts(space: Space) -> list[Start]:
    """Three start recipes: one in the space, one partly, one that the search can never propose."""
    inside: dict[str, Any] = {
        "optimizer.head_lr": 0.004,
        "head.dropout": 0.1,
        "loss.lds.enabled": False,
        "target.transform": "none",
    }
    partly: dict[str, Any] = {"head.dropout": 0.3, "optimizer.head_lr": 1e-5}
    outside = {"head.dropout": 0.9, "optimizer.head_lr": 1e-6, "head.hidden": [4]}
    return [
        (inside, space.base.with_overrides(inside)),
        ({"head.dropout": 0.3}, space.base.with_overrides(partly)),
        ({}, space.base.with_overrides(outside)),
    ]


@pytest.fixture
def drive(make_searcher: Callable[..., OptunaSearcher]) -> Callable[..., Ledger]:
    """`drive(run, trials, search, seed, kill_after=None, promote=None, pruner="asha", **options)`: a serial sweep from
    the ledger on disk to its end; the options are the searcher's.

    With `kill_after` it dies after that many events; an event is a proposal, an epoch or an ending.
    """

    def sweep(
        run: RunFolder,
        trials: int,
        search: Search = "optuna",
        seed: int = 0,
        kill_after: int | None = None,
        promote: int | None = None,
        pruner: PrunerName = "asha",
        **options: Any,
    ) -> Ledger:
        events = 0

        def event() -> None:
            nonlocal events
            events += 1
            if events == kill_after:
                raise Killed

        def promotion(ledger: Ledger) -> Promotion:
            return Promotion(ledger, Retention(run, ledger, None), trials, promote, EPOCHS)

        while True:
            ledger = Ledger(run)
            promoted = [record.name for record in promotion(ledger).due()]
            if not ledger.left(trials) + len(promoted):
                return ledger
            searcher = make_searcher(run, search, seed, trials, promoted=promoted, **options)
            scheduler = PruningScheduler(
                searcher.ledger,
                make_pruner(pruner, EPOCHS, promote=promote),
                promotion(searcher.ledger).cut,
            )
            stage(searcher, scheduler, promotion(searcher.ledger), event)

    def stage(
        searcher: OptunaSearcher, scheduler: PruningScheduler, promotion: Promotion, event: Callable[[], None]
    ) -> None:
        ledger = searcher.ledger
        keeper = Bookkeeper(ledger, scheduler, searcher, Stop(), promotion, lambda _: None, lambda: None)
        while (config := searcher.suggest("ray's id")) != "FINISHED":
            event()
            assert isinstance(config, dict)
            trial: Any = SimpleNamespace(config=config, last_result={})
            recipe = json.loads(config["recipe"])
            keeper.on_trial_start(0, [], trial)
            known = config["reported"] if promotion.cut and config["reported"] >= promotion.cut else 0
            for epoch in range(known + 1, EPOCHS + 1):
                if _fails(recipe, epoch):
                    result: dict[str, Any] = {"error": "the loss is nan", "done": True}
                else:
                    result = result_of(_report(epoch, _formula(recipe, epoch)), epoch == EPOCHS)
                if not result["done"]:
                    if scheduler.on_trial_result(None, trial, result) == scheduler.STOP:
                        result["done"] = True
                    else:
                        searcher.on_trial_result("ray's id", result)
                keeper.on_trial_result(0, [], trial, result)
                trial.last_result = result
                event()
                if result["done"]:
                    break
            keeper.on_trial_complete(0, [], trial)
            event()

    return sweep


@pytest.fixture
def facts() -> Callable[[Ledger], list[Record]]:
    """`facts(ledger)`: its records, to compare."""
    return lambda ledger: list(ledger.records.values())


@pytest.fixture
def killed() -> type[BaseException]:
    """What `drive` raises when it is killed."""
    return Killed


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sound data folder."""
    out = tmp_path_factory.mktemp("paddocks") / "data"
    make_data(out, images=24, width=200, height=100)
    return out
