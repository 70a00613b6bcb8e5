"""Warm start: a sweep begins with the best recipes of an earlier run, and Optuna learns from its trials.

The best recipes become the first start recipes of the space, so that sweep.yaml holds them. What Optuna learns from
lies in earlier_trials.json in the new run directory. Resuming needs the earlier run no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from pasture.checksum import json_with_checksum, read_json_with_checksum
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from search_spaces.parameter import Label
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record
from tune.records.plan import Plan

BEST: Final = 5
"""How many recipes of the earlier run are tried first."""

EARLIER_TRIALS: Final = "earlier_trials.json"


def warm_start(space: Space, earlier: RunFolder, keep_start: bool = True) -> Space:
    """The space with the 5 best complete recipes of an earlier run in front of its own start recipes.

    Of each recipe, the fields that the space searches are taken where their values lie in the space; all other fields
    are those of the space's base. The earlier run may be of other data and of another space.

    Args:
        space: of the new sweep.
        earlier: an earlier run directory.
        keep_start: whether the space's own start recipes follow.

    Raises:
        InputError: no run directory, or none of its complete trials has a recipe that lies in the space.
    """
    Plan.read(earlier)
    complete = Ledger(earlier).with_status("COMPLETE")
    if not complete:
        raise InputError(f"--warm-start {earlier}: no trial of this run is complete")
    found: dict[str, dict[str, Label]] = {}
    for record in sorted(complete, key=lambda r: (-(r.score or 0.0), r.number)):
        if len(found) < BEST and (point := _point(space, record)):
            labels, recipe = point
            found.setdefault(recipe.hash, labels)
    if not found:
        raise InputError(f"--warm-start {earlier}: none of its recipes has a value that lies in this space")
    own = (space.start or [dict(labels) for labels, _ in space.starts()]) if keep_start else []
    return Space.parse(replace(space, start=[*map(dict, found.values()), *own]).to_dict(), f"--warm-start {earlier}")


def write_earlier_trials(run: RunFolder, plan: Plan, earlier: RunFolder) -> None:
    """Record in a new run directory the earlier trials that Optuna can learn from.

    Those are the complete and pruned trials of the same data whose recipe, all of it, is one that the space can
    propose. Scores on other data, or of recipes that differ in a field that is not searched, cannot be compared. Start
    recipes of the new sweep are left out: it trains them itself.
    """
    before = Plan.read(earlier)
    if (before.fingerprint, set(before.outer)) != (plan.fingerprint, set(plan.outer)):
        return
    space = Space.parse(plan.space)
    starts = {recipe.hash for _, recipe in space.starts()}
    trials = []
    for record in Ledger(earlier).with_status("COMPLETE", "PRUNED"):
        point = _point(space, record)
        if point and point[1].hash not in starts and point[1].to_dict() == record.recipe:
            curve = [{"epoch": report["epoch"], "score": report["score"]} for report in record.curve]
            trials.append({"params": point[0], "status": record.status, "curve": curve})
    run.folder.write(EARLIER_TRIALS, json_with_checksum({"trials": trials}))


def read_earlier_trials(run: RunFolder) -> list[Record]:
    """Read the trials that `write_earlier_trials` wrote; empty for a sweep without a warm start.

    Raises:
        InputError: the file is damaged.
    """
    if not run.folder.exists(EARLIER_TRIALS):
        return []
    try:
        trials: list[dict[str, Any]] = read_json_with_checksum(run.folder.read(EARLIER_TRIALS))["trials"]
        return [Record(number=i, recipe={}, **trial) for i, trial in enumerate(trials)]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{run}/{EARLIER_TRIALS}: damaged ({error}); delete it and the sampler starts without it"
        ) from None


def _point(space: Space, record: Record) -> tuple[dict[str, Label], Recipe] | None:
    """Labels and recipe of the space that are nearest to an earlier trial; None if it has no label, or no recipe."""
    try:
        labels = space.labels(Recipe.parse(record.recipe))
        return (labels, space.at(labels)) if labels else None
    except InputError:  # a recipe of another version, or labels that do not go together with the space's base
        return None
