"""Predicted seconds of a trial, and a search that prefers cheap recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pasture.run_folder import RunFolder
from search_spaces.space import Space
from tune.records.ledger import Ledger, Record
from tune.records.trial_cost import TrialCost
from tune.search.optuna_searcher import OptunaSearcher

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SPACE = Space.parse(
    {
        "base": {"backbone": {"weights": "none"}, "schedule": {"epochs": 3}},
        "search": {
            "backbone.name": {"choice": ["resnet18", "resnet50"]},
            "head.dropout": {"uniform": [0.0, 0.5]},
        },
    }
)
SECONDS = {"resnet18": 1.0, "resnet50": 100.0}


def _recipe(backbone: str = "resnet18", size: int = 256, head: str = "mlp") -> dict[str, Any]:
    return {"backbone": {"name": backbone, "tuning": "frozen"}, "view": {"size": size}, "head": {"kind": head}}


def _ended(number: int, recipe: dict[str, Any], *seconds: float) -> Record:
    curve = [{"epoch": i + 1, "score": 0.0, "seconds": s} for i, s in enumerate(seconds)]
    return Record(number, {}, recipe, "PRUNED", curve)


def test_the_median_of_like_trials_times_the_epochs() -> None:
    cost = TrialCost()
    assert cost.predict(_recipe(), 10) == 0.0
    for number, seconds in enumerate([(1.0, 3.0), (4.0,), (30.0,)]):
        cost.add(_ended(number, _recipe(), *seconds))
    cost.add(_ended(3, _recipe("resnet50"), 100.0))
    cost.add(_ended(4, _recipe()))  # failed before its first epoch
    assert cost.predict(_recipe(), 10) == 40.0
    assert cost.predict(_recipe("resnet50"), 2) == 200.0
    assert cost.predict(_recipe("resnet34"), 1) == (4.0 + 30.0) / 2, "another backbone: the same size and head"
    assert cost.predict(_recipe(size=384, head="pls"), 1) == 17.0, "all trials"
    cost.add(_ended(2, _recipe(), 4.0, 4.0))  # the same trial again, after its promotion
    assert cost.predict(_recipe(), 1) == 4.0


def _search(run: RunFolder, make: Callable[..., OptunaSearcher], trials: int, sessions: int, **options: Any) -> Any:
    """Backbones proposed, where the scores of both backbones are alike; the searcher is made anew between sessions."""
    for session in range(sessions):
        searcher = make(run, space=SPACE, trials=trials * (session + 1) // sessions, **options)
        while isinstance(config := searcher.suggest(""), dict):
            record = searcher.ledger.records[config["trial"]]
            for epoch in (1, 2, 3):
                seconds = SECONDS[record.params["backbone.name"]]
                record.report({"epoch": epoch, "score": -abs(record.params["head.dropout"] - 0.2), "seconds": seconds})
            record.status = "COMPLETE"
            searcher.ledger.write(record)
            searcher.report_end(record)
    return [record.params for record in Ledger(run).records.values()]


def test_cheap_recipes_are_preferred_and_a_resumed_search_proposes_the_same(
    run: RunFolder, make_searcher: Callable[..., OptunaSearcher], tmp_path: Any
) -> None:
    plain = _search(run, make_searcher, 16, 1)
    cheap = _search(RunFolder(tmp_path / "cheap"), make_searcher, 16, 1, per_second=True)
    resumed = _search(RunFolder(tmp_path / "resumed"), make_searcher, 16, 3, per_second=True)
    assert cheap == resumed
    costly = [sum(params["backbone.name"] == "resnet50" for params in search) for search in (plain, cheap)]
    assert 0 < costly[1] < costly[0] / 2
    assert plain[0] == cheap[0], "nothing is known of the first trial's cost"
