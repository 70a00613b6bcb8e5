"""A search over whole recipes: proposals, the study after a restart, and a warm start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pasture.run_folder import RunFolder
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger
from tune.records.plan import Plan
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.warm_start import read_earlier_trials, warm_start, write_earlier_trials

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SPACE = Space.parse(
    {
        "search": {
            "recipe": {"choice": {"a": {"head": {"hidden": [8]}}, "b": {"view": {"kind": "whole"}}}},
            "head.dropout": {"uniform": [0.1, 0.5]},
            "loss.beta": {"uniform": [0.5, 2.0], "when": {"recipe": "b"}},
        },
    }
)


def searched(run: RunFolder, report: Callable[..., dict[str, Any]], trials: int) -> OptunaSearcher:
    """A search whose trials end with a score equal to their dropout."""
    searcher = OptunaSearcher(
        SPACE, Ledger(run), lambda record: {"trial": record.name}, trials=trials, starts=SPACE.starts()
    )
    while isinstance(config := searcher.suggest("id"), dict):
        record = searcher.ledger.records[config["trial"]]
        record.report(report(1, Recipe.parse(record.recipe).head.dropout))
        record.status = "COMPLETE"
        searcher.ledger.write(record)
        searcher.report_end(record)
    return searcher


def test_proposals_and_the_study_after_a_restart(run: RunFolder, report: Callable[..., dict[str, Any]]) -> None:
    first = searched(run, report, 15)
    records = list(first.ledger.records.values())
    assert [record.params["recipe"] for record in records[:2]] == ["a", "b"]
    for record in records:
        assert ("loss.beta" in record.params) == (record.params["recipe"] == "b")
        kind = {"a": "halves", "b": "whole"}[record.params["recipe"]]  # type: ignore[index]
        assert Recipe.parse(record.recipe).view.kind == kind
    again = OptunaSearcher(SPACE, Ledger(run), lambda record: {}, trials=15, starts=SPACE.starts())
    facts = [[(t.state, t.values, t.params, t.distributions) for t in s.study.trials] for s in (first, again)]
    assert facts[0] == facts[1]


def test_a_warm_start_from_a_search_over_the_same_recipes(
    run: RunFolder, tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    content = {"data": "d", "space": SPACE.to_dict(), "search": "optuna", "seed": 0, "fingerprint": "f", "versions": {}}
    Plan(**content, trials=12).write(run)
    ledger = searched(run, report, 12).ledger
    best = max(ledger.records.values(), key=lambda record: record.score or 0)
    warm = warm_start(SPACE, run)
    assert warm.starts()[0] == (best.params, Recipe.parse(best.recipe))
    new = RunFolder(tmp_path / "new")
    write_earlier_trials(new, Plan(**content | {"space": warm.to_dict()}, trials=3), run)
    assert len(read_earlier_trials(new)) == 12 - len({recipe.hash for _, recipe in warm.starts()})
