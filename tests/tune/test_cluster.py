from __future__ import annotations

import socket
from typing import Any

import pytest

from pasture.errors import InputError, JobError
from search_spaces.resources import Rule
from trainables.recipe import Recipe
from tune import cluster


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
        ([node(8, 1)], 1, 0.25, {"CPU": 1, "GPU": 0.25}),
        ([node(2), node(16, 4)], 8, None, {"CPU": 8, "GPU": 1}),
    ],
)
def test_the_bundle_of_a_trial(
    nodes: list[Any], cpus: float, gpus: float | None, bundle: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert cluster.trial_resources(cpus, gpus) == bundle


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
        ([node(8, 4)], 1, 1.5, "a trial of 1.5 GPUs: a part of a GPU, or whole ones"),
        ([node(2), node(4, 1)], 8, None, "have 2 CPU, 0 GPU; 4 CPU, 1 GPU"),
        # Each is there, but on different nodes.
        ([node(32), node(4, 1)], 8, 1, "no node has both"),
        ([node(8, 4), node(64, 8, alive=False)], 16, 0, "nodes have 8 CPU, 4 GPU;"),
        ([node(2)], 0, None, "nothing to run on; raise --cpus-per-trial"),
    ],
)
def test_what_no_node_can_give_is_named(
    nodes: list[Any], cpus: float, gpus: float | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    with pytest.raises(InputError, match=message):
        cluster.trial_resources(cpus, gpus)


RULES = (
    Rule(gpus=1, when={"backbone.tuning": ("full", "lora")}),
    Rule(cpus=4, gpus=0, when={"view.size": (512,), "backbone.tuning": ("frozen",)}),
)


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
    placement = cluster.Placement((*RULES, Rule()), 2, 0.25)
    assert placement.bundle(Recipe().with_overrides(fields)) == bundle


def test_a_rule_whose_trials_no_node_can_hold_is_refused_before_any_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node(8)])
    with pytest.raises(InputError, match="2 CPU and 1 GPU: there is too little GPU"):
        cluster.Placement((*RULES, Rule()), 2, None)
    every = cluster.Placement((Rule(cpus=1), Rule(cpus=99)), 2, None)  # the second is for no trial
    assert every.bundle(Recipe()) == {"CPU": 1}


@pytest.mark.parametrize("error", [ConnectionError("no\nanswer"), ValueError("bad"), RuntimeError("no")])
@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("local", JobError, "Ray does not start on this machine"),
        ("auto", InputError, "--address auto: no Ray cluster answers there"),
    ],
)
def test_no_ray_is_one_line(
    error: Exception, address: str, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(kind, match=message) as caught, cluster.connect(address):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nowhere.invalid:6379"])
def test_an_address_where_nobody_listens_is_said_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray would try for minutes"))
    with pytest.raises(InputError, match=f"--address {address}: no Ray cluster answers"), cluster.connect(address):
        pass


def test_ray_client_is_refused_with_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Tune would run on the head"))
    instead = "with --address HOST:PORT, or as a job with `ray job submit`"
    with pytest.raises(InputError, match=instead) as caught, cluster.connect("ray://127.0.0.1:10001"):
        pass
    assert "\n" not in str(caught.value)


def test_an_address_where_somebody_listens_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[str] = []
    monkeypatch.setattr("ray.nodes", list)
    monkeypatch.setattr("ray.init", lambda address, **_: addresses.append(address))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with cluster.connect(address):
            pass
    assert addresses == [address]


def test_ray_is_let_go_of_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("ray.init", lambda **_: calls.append("init"))
    monkeypatch.setattr("ray.shutdown", lambda: calls.append("shutdown"))
    with pytest.raises(ZeroDivisionError), cluster.connect("local"):
        _ = 1 / 0
    assert calls == ["init", "shutdown"]
