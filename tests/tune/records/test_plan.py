from __future__ import annotations

import math
from typing import Any

import pytest

from pasture.errors import InputError
from tune.records.plan import CHANGEABLE, Limits, Plan

FACTS: dict[str, Any] = {"data": "d", "space": {}, "search": "random", "seed": 0, "fingerprint": "f", "versions": {}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials": 0}, "--trials 0: expected more than 0"),
        ({"trials": 2.5}, "--trials 2.5: expected a valid integer"),
        ({}, "--trials: required"),
        ({"trials": 2, "promote": 3}, "--promote 3: expected at most as many as --trials 2"),
        ({"trials": 2, "hours": math.nan}, "--hours nan: expected a finite number"),
        ({"trials": 2, "until_score": math.nan}, "--until-score nan: expected a finite number"),
        ({"trials": 2, "cpus_per_trial": -1}, "--cpus-per-trial -1: expected at least 0"),
        ({"trials": 2, "max_failures": -1}, "--max-failures -1: expected at least 0"),
        ({"trials": 2, "pruner": "asah"}, "--pruner asah: expected 'asha', 'paired' or 'none'"),
        ({"trials": 2, "reduction": 1}, "--reduction 1: expected at least 2"),
        ({"trials": 2, "objective": "best"}, "--objective best: expected 'score', 'blend' or 'score-per-second'"),
        ({"trials": 2, "budget": 1}, "--budget: no such option"),
    ],
)
def test_a_wrong_limit_is_named_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Limits(**values)
    assert "\n" not in str(caught.value)


def test_a_plan_changes_only_what_a_started_sweep_may_change() -> None:
    plan = Plan(trials=3, **FACTS)
    assert plan.changed({"trials": 4, "data": "e"}) == Plan(trials=4, **FACTS | {"data": "e"})
    with pytest.raises(InputError, match="--trials 0: expected more than 0"):
        plan.changed({"trials": 0})
    for name in set(Plan.model_fields) - set(CHANGEABLE):
        with pytest.raises(InputError, match="cannot be changed in a sweep that has started"):
            plan.changed({name: getattr(plan, name)})
