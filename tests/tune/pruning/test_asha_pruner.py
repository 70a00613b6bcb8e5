from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler

from tune.pruning.asha_pruner import AshaPruner


def judge(pruner: AshaPruner, trial: str, epoch: int, score: float) -> bool:
    return pruner.judge(trial, {"epoch": epoch, "score": score})


def scores(pruner: AshaPruner) -> dict[int, dict[str, float]]:
    return {rung: {name: entry.score for name, entry in entries.items()} for rung, entries in pruner.entries.items()}


def test_a_hand_worked_example() -> None:
    pruner = AshaPruner((1, 3))
    # Cut-off: the 2/3 quantile, interpolated linearly, of the scores before it.
    assert judge(pruner, "a", 1, 0.50)  # the first: no cut-off
    assert not judge(pruner, "b", 1, 0.40)  # of (.50): .50
    assert judge(pruner, "c", 1, 0.60)  # of (.40 .50): .4667
    assert not judge(pruner, "d", 1, 0.52)  # of (.40 .50 .60): .5333
    assert judge(pruner, "e", 1, 0.56)  # of (.40 .50 .52 .60): .52
    assert judge(pruner, "c", 2, -9.0)  # no rung
    assert judge(pruner, "c", 3, -1.0)  # the first at this one
    assert judge(pruner, "a", 3, -1.0)  # as good as the cut-off
    assert not judge(pruner, "e", 3, -1.1)
    assert scores(pruner) == {
        1: {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.52, "e": 0.56},
        3: {"c": -1, "a": -1, "e": -1.1},
    }


@pytest.mark.parametrize("seed", range(10))
def test_decisions_agree_with_rays_bracket(seed: int) -> None:
    rng = np.random.default_rng(seed)
    theirs = ASHAScheduler(metric="score", mode="max", max_t=9, grace_period=1, reduction_factor=3)._brackets[0]
    ours = AshaPruner((1, 3))
    assert {mark for mark, _ in theirs._rungs} - {9} == set(ours.rungs)
    waiting, running, stopped = [f"t{i}" for i in range(60)], dict[str, int](), 0
    while waiting or running:
        if waiting and len(running) < 4:
            running[waiting.pop()] = 0
        name = str(rng.choice(list(running)))
        running[name] += 1
        epoch, score = running[name], float(rng.normal())
        if epoch == 9:
            del running[name]
            continue
        continues = judge(ours, name, epoch, score)
        assert continues == (theirs.on_result(SimpleNamespace(trial_id=name), epoch, score) != "STOP")
        if not continues:
            stopped += 1
            del running[name]
    assert stopped > 20
    assert {mark: rung for mark, rung in theirs._rungs if mark != 9} == scores(ours)
