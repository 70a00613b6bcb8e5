"""Confirmation: the best recipes of a sweep are trained again with another seed and reshuffled folds.

The best of many scores is partly luck. A second score of the same recipe, with other initial weights, other batches and
other folds, shows how much. Both trials are members that a blend may use.

Which trials to confirm follows from the ledger alone: a trial is confirmed if there is a record of its recipe with the
other seeds.
"""

from __future__ import annotations

from typing import Any, Final

from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record
from tune.records.plan import Plan

_SEED_OFFSET: Final = 1000
"""Added to `seed` and `validation.seed`: far from the small numbers that users choose or search."""


def propose_confirmations(ledger: Ledger, count: int) -> list[Record]:
    """Write the records of the confirmations that are due; see `unconfirmed`."""
    originals = unconfirmed(ledger, count)
    return [ledger.propose(r.params, Recipe.parse(_confirming(r)), origin="confirm") for r in originals]


def unconfirmed(ledger: Ledger, count: int) -> list[Record]:
    """Those of the `count` best complete trials, start or searched, that have no confirmation yet; best first."""
    confirmed = [r.recipe for r in ledger.records.values() if r.origin == "confirm"]
    return [record for record in _best(ledger, count) if _confirming(record) not in confirmed]


def is_over(ledger: Ledger, plan: Plan) -> bool:
    """Whether all trials of a plan have ended, and all confirmations."""
    under_way = ledger.left(plan.trials) or ledger.with_status("WAITING")
    return not under_way and not unconfirmed(ledger, plan.confirm)


def confirmed_scores(ledger: Ledger) -> list[str]:
    """One line for each confirmed trial, best first: both scores."""
    confirmations = [r for r in ledger.with_status("COMPLETE") if r.origin == "confirm"]
    return [
        f"{original.name} scores {original.score:.4f}, and {again.score:.4f} with another seed and folds ({again.name})"
        for original in _best(ledger, len(ledger.records))
        for again in confirmations
        if again.recipe == _confirming(original)
    ]


def _best(ledger: Ledger, count: int) -> list[Record]:
    complete = [r for r in ledger.with_status("COMPLETE") if r.origin != "confirm"]
    return sorted(complete, key=lambda r: (-(r.score or 0.0), r.number))[:count]


def _confirming(record: Record) -> dict[str, Any]:
    """The recipe of a trial with another seed and reshuffled folds."""
    validation = record.recipe["validation"]
    return {
        **record.recipe,
        "seed": record.recipe["seed"] + _SEED_OFFSET,
        "validation": {**validation, "seed": validation["seed"] + _SEED_OFFSET},
    }
