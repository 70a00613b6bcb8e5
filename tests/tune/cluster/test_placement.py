from __future__ import annotations

from typing import Any

import pytest

from pasture.errors import InputError
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.cluster.placement import Placement, trial_resources
from tune.records.plan import Limits


def node(cpu: float, gpu: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpu, "memory": 1e9} | ({"GPU": gpu} if gpu else {})}


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "bundle"),
    [
        ([node(2)], 1, None, {"CPU": 1}),
        ([node(2)], 2, 0, {"CPU": 2}),
        ([node(2)], 0.5, None, {"CPU": 0.5}),
        ([node(8, 1)], 4, None, {"CPU": 4, "GPU": 1}),
        ([node(8, 1)], 4, 0.0, {"CPU": 4}),
        ([node(8, 2)], 4, 2, {"CPU": 4, "GPU": 2}),
        # Several GPUs may be those of several nodes: one worker of a trial lies on each.
        ([node(4, 1), node(4, 1)], 8, 2, {"CPU": 8, "GPU": 2}),
        ([node(1, 2), node(1, 1)], 1.5, 3, {"CPU": 1.5, "GPU": 3}),
        ([node(8, 1)], 1, 0.25, {"CPU": 1, "GPU": 0.25}),
        ([node(2), node(16, 4)], 8, None, {"CPU": 8, "GPU": 1}),
    ],
)
def test_the_bundle_of_a_trial(
    nodes: list[Any], cpus: float, gpus: float | None, bundle: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert trial_resources(cpus, gpus) == bundle


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "message"),
    [
        (
            [node(2)],
            1,
            1,
            "1 CPU and 1 GPU: there is too little GPU; the cluster's nodes have 2 CPU, 0 GPU; lower --cpus",
        ),
        ([node(2)], 3, None, "3 CPU and 0 GPU: there is too little CPU;"),
        ([node(2)], 3, 1, "too little CPU and GPU;"),
        ([node(8, 4)], 1, 1.5, "--gpus-per-trial 1.5: expected a fraction of one GPU or a whole number"),
        ([node(2), node(4, 1)], 8, None, "have 2 CPU, 0 GPU; 4 CPU, 1 GPU"),
        # Each is there, but on different nodes.
        ([node(32), node(4, 1)], 8, 1, "no node has both"),
        ([node(8, 4), node(64, 8, alive=False)], 16, 0, "nodes have 8 CPU, 4 GPU;"),
        (
            [node(8, 1)],
            1,
            2,
            "the cluster can never hold a trial of 1 CPU and 2 GPU, in 2 workers of 0.5 CPU and 1 GPU: ",
        ),
        (
            [node(8, 1), node(8, 2)],
            1,
            4,
            "there is too little GPU; the cluster's nodes have 8 CPU, 1 GPU; 8 CPU, 2 GPU",
        ),
        ([node(2, 2), node(8)], 8, 2, "in 2 workers of 4 CPU and 1 GPU: too few nodes have both"),
        ([node(2)], 0, None, "--cpus-per-trial 0: a trial without CPU and GPU cannot run"),
    ],
)
def test_what_no_node_can_give_is_named(
    nodes: list[Any], cpus: float, gpus: float | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    with pytest.raises(InputError, match=message):
        trial_resources(cpus, gpus)


RULES = [
    {"gpus": 1, "when": {"backbone.tuning": ["full", "lora"]}},
    {"cpus": 4, "gpus": 0, "when": {"view.size": 512, "backbone.tuning": "frozen"}},
]


VARIED = {"backbone.tuning": {"choice": ["frozen", "full"]}, "view.size": {"choice": [256, 512]}}


def place(rules: list[Any], cpus: float, gpus: float | None, together: int = 1, **search: Any) -> Placement:
    space = Space.parse({"search": search, "resources": rules})
    limits = Limits(trials=1, cpus_per_trial=cpus, gpus_per_trial=gpus, gpus_per_fold=together)
    return Placement(space, limits)


@pytest.mark.parametrize(
    ("fields", "bundle"),
    [
        ({"backbone.tuning": "full", "view.size": 512}, {"CPU": 2, "GPU": 1}),
        ({"view.size": 512}, {"CPU": 4}),
        ({}, {"CPU": 2, "GPU": 0.25}),
    ],
)
def test_the_first_rule_that_fits_says_what_a_trial_asks_for(
    fields: dict[str, Any], bundle: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node(8, 1)])
    placement = place(RULES, 2, 0.25, **VARIED)
    assert placement.request(Recipe().with_overrides(fields)) == (bundle, 1)


def test_a_rule_whose_trials_no_node_can_hold_is_refused_before_any_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node(8)])
    with pytest.raises(InputError, match="2 CPU and 1 GPU: there is too little GPU"):
        place(RULES, 2, None, **VARIED)


HOLDOUT = {"gpus": 1, "when": {"validation.splitter": "holdout"}}


@pytest.mark.parametrize(
    ("rules", "gpus", "search", "message"),
    [
        ([], 6, {}, "a trial of 6 GPUs with 5 folds .*: each fold takes 1, the others would be idle; lower --gpus"),
        ([], 3, {"validation.folds": {"integer": [2, 9]}}, "3 GPUs with 2 folds"),
        ([], 2, {"validation.splitter": {"choice": ["group", "holdout"]}}, r"1 folds \(validation.splitter=holdout\)"),
        ([{"gpus": 7, "when": {"backbone.tuning": "full"}}], 1, VARIED, "7 GPUs with 5 folds"),
        ([HOLDOUT], 2, {"validation.splitter": {"choice": ["group", "holdout"]}}, None),
        ([{"gpus": 5}], 9, {}, None),
        ([], 5, {}, None),
    ],
)
def test_gpus_that_would_be_idle_are_refused_before_any_trial_runs(
    rules: list[Any], gpus: float, search: dict[str, Any], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node(16, 16)])
    if message is None:
        place(rules, 1, gpus, **search)
        return
    with pytest.raises(InputError, match=message):
        place(rules, 1, gpus, **search)


@pytest.mark.parametrize(
    ("gpus", "together", "asked"),
    [(None, 2, ({"CPU": 1, "GPU": 2}, 2)), (4, 2, ({"CPU": 1, "GPU": 4}, 2)), (10, 2, ({"CPU": 1, "GPU": 10}, 2))],
)
def test_several_gpus_may_train_one_fold(
    gpus: float | None, together: int, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node(16, 16)])
    assert place([], 1, gpus, together).request(Recipe()) == asked
    assert place([{"gpus": gpus or 2, "gpus_per_fold": 2}], 1, 16).request(Recipe()) == asked


@pytest.mark.parametrize(
    ("rules", "gpus", "together", "message"),
    [
        ([], 3, 2, "a trial of 3 GPUs with 2 a fold: some would be idle; let --gpus-per-trial be a multiple"),
        ([], 0.5, 2, r"a trial of 0\.5 GPUs with 2 a fold"),
        ([], 0, 2, "a trial of 0 GPUs with 2 a fold"),
        ([], 2, 4, "a trial of 2 GPUs with 4 a fold"),
        ([], 12, 2, "a trial of 12 GPUs with 5 folds .*: each fold takes 2, the others"),
        ([], None, 32, "too little GPU"),
        ([{"gpus": 1}], 2, 2, "a trial of 1 GPUs with 2 a fold"),
    ],
)
def test_gpus_that_do_not_go_round_are_refused(
    rules: list[Any], gpus: float | None, together: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node(16, 16)])
    with pytest.raises(InputError, match=message):
        place(rules, 1, gpus, together)


def test_what_is_no_network_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node(16, 16)])
    ridge = Space.parse({"base": {"head": {"kind": "ridge"}}})
    with pytest.raises(InputError, match=r"head\.kind=ridge is fitted in one piece and cannot use several GPUs a fold"):
        Placement(ridge, Limits(trials=1, gpus_per_trial=2, gpus_per_fold=2))
    assert Placement(ridge, Limits(trials=1, gpus_per_trial=2)).request(ridge.base).gpus_per_fold == 1
