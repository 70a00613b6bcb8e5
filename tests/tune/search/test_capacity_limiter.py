from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune.search

from tune.search.capacity_limiter import CapacityLimiter

CPU = {"CPU": 1.0}
GPU = {"CPU": 1.0, "GPU": 1.0}


class Endless(ray.tune.search.Searcher):
    """Proposes trials that ask for given resources, the last ones for ever."""

    def __init__(self, *requests: dict[str, float]) -> None:
        super().__init__(metric="score", mode="max")
        self.requests = list(requests)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"resources": self.requests.pop(0) if len(self.requests) > 1 else self.requests[0]}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The resources of the cluster, which a test may change; the clock runs on by itself."""
    resources = {"CPU": 4.0, "GPU": 2.0}
    monkeypatch.setattr("ray.cluster_resources", lambda: dict(resources))
    clock = iter(range(0, 10**6, 60))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    return resources


def proposed(limiter: CapacityLimiter, first: int = 0) -> int:
    """How many trials are proposed until there is no room, by the names t0, t1, ... from the first."""
    number = first
    while limiter.suggest(f"t{number}") is not None:
        number += 1
        assert number < 100
    return number - first


@pytest.mark.parametrize(
    ("requests", "expected"),
    [([CPU], 4), ([GPU], 2), ([{"CPU": 0.3}], 13), ([{"CPU": 4.0}], 1), ([{"CPU": 1.5, "GPU": 0.5}], 2)],
)
def test_as_many_as_fit(cluster: dict[str, float], requests: list[dict[str, float]], expected: int) -> None:
    assert proposed(CapacityLimiter(Endless(*requests), requests)) == expected


def test_the_end_of_a_trial_makes_room_for_one(cluster: dict[str, float]) -> None:
    limiter = CapacityLimiter(Endless(CPU), [CPU])
    proposed(limiter)
    limiter.on_trial_complete("t2")
    assert proposed(limiter, 4) == 1
    limiter.on_trial_complete("t0", error=True)
    assert proposed(limiter, 5) == 1


def test_nodes_that_join_are_used(cluster: dict[str, float]) -> None:
    limiter = CapacityLimiter(Endless(CPU), [CPU])
    proposed(limiter)
    cluster["CPU"] = 7.0
    assert proposed(limiter, 4) == 3


def test_a_trial_is_proposed_where_no_other_is_live(cluster: dict[str, float]) -> None:
    cluster.update(CPU=0.0, GPU=0.0)  # all nodes are lost; more may come
    assert proposed(CapacityLimiter(Endless(GPU), [GPU])) == 1


def test_of_different_rules_one_trial_at_most_waits(cluster: dict[str, float]) -> None:
    limiter = CapacityLimiter(Endless(GPU, GPU, GPU, CPU), [CPU, GPU])
    assert proposed(limiter) == 3


def test_the_end_of_the_search_is_passed_on(cluster: dict[str, float]) -> None:
    class Over(Endless):
        def suggest(self, trial_id: str) -> Any:
            return self.FINISHED

    assert CapacityLimiter(Over(CPU), [CPU]).suggest("t0") == ray.tune.search.Searcher.FINISHED


def pending(*names: str, failed: tuple[str, ...] = ()) -> list[Any]:
    """Trials without a worker, as Ray Tune shows them."""
    return [SimpleNamespace(trial_id=name, num_failures=int(name in failed)) for name in names]


def test_of_trials_whose_workers_are_starting_a_free_worker_takes_the_newest(cluster: dict[str, float]) -> None:
    limiter = CapacityLimiter(Endless(CPU), [CPU])
    proposed(limiter)
    assert limiter.choose(pending("t1", "t2", "t3")).trial_id == "t3"
    assert limiter.choose(pending("t1", "t2", "t3", failed=("t2",))).trial_id == "t2"
    assert limiter.choose([]) is None


def test_on_a_cluster_one_trial_waits_and_is_the_next(cluster: dict[str, float]) -> None:
    limiter = CapacityLimiter(Endless(CPU), [CPU], ahead=1)
    assert proposed(limiter) == 5
    limiter.on_trial_complete("t0")  # the others are still starting
    assert limiter.suggest("t5") is None
    assert limiter.choose(pending("t1", "t2", "t3", "t4")).trial_id == "t4"
    assert limiter.choose(pending("t1", "t2", "t3")).trial_id == "t3"
    assert proposed(limiter, 5) == 1
    assert limiter.choose(pending("t1", "t2", "t3", "t5")).trial_id == "t5"
