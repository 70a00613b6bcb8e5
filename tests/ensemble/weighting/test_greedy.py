from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ensemble.weighting.greedy import TIE, Gram, greedy
from ensemble.weighting.options import Options
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.targets import Array

Problem = tuple[Array, Array, list[str]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Truth (n, 5), predictions (m, n, 5) and backbones; small integers and repeated members make many exact ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    truth = rng.integers(0, 20, (n, 5)).astype(float)
    truth[0, 0] += 1 + truth.max()  # never constant
    exact = draw(st.booleans())
    predictions = truth + (rng.integers(-2, 3, (m, n, 5)) if exact else rng.normal(0, 5, (m, n, 5)))
    predictions = predictions[rng.integers(0, m, m)] if draw(st.booleans()) else predictions
    return truth, predictions, [f"b{i}" for i in rng.integers(0, 3, m)]


def brute_force(truth: Array, predictions: Array, backbones: Sequence[str], steps: int) -> tuple[list[int], int]:
    """Path and length of the best prefix, straight from the definition: blend, score, compare."""
    path: list[int] = []
    curve: list[float] = []
    for _ in range(steps):
        scores = [weighted_r2(truth, predictions[[*path, j]].mean(axis=0)) for j in range(len(predictions))]
        best = max(scores)
        equal = [j for j, score in enumerate(scores) if score >= best - TIE]
        path.append(min(equal, key=lambda j: (len({backbones[i] for i in [*path, j]}), j)))
        curve.append(scores[path[-1]])
    prefix = min(k for k, score in enumerate(curve, 1) if score >= max(curve) - TIE)
    return path, prefix


@given(problems(), st.integers(1, 12))
@settings(max_examples=200)
def test_path_equals_brute_force_step_by_step(problem: Problem, steps: int) -> None:
    truth, predictions, backbones = problem
    selection = greedy(Gram(truth, predictions), backbones, Options(steps=steps))
    path, prefix = brute_force(truth, predictions, backbones, steps)
    assert list(selection.path) == path
    assert selection.prefix == prefix
    assert_allclose(selection.weights, np.bincount(path[:prefix], minlength=len(predictions)) / prefix)
    curve = [weighted_r2(truth, predictions[path[:k]].mean(axis=0)) for k in range(1, steps + 1)]
    assert_allclose(selection.curve, curve, atol=1e-11)


def autogluon(truth: Array, predictions: Array, steps: int) -> list[int]:
    """The picks of AutoGluon's EnsembleSelection, up to the best prefix, as published: N. Erickson et al.: AutoGluon-
    Tabular, 2020, section 2.4, and `EnsembleSelection._fit` in autogluon.core: of the members that leave the blend with
    the least loss one is drawn at random, then the first best size is kept."""
    rng = np.random.default_rng(0)
    path: list[int] = []
    losses: list[float] = []
    for _ in range(steps):
        trial = [-weighted_r2(truth, predictions[[*path, j]].mean(axis=0)) for j in range(len(predictions))]
        path.append(int(rng.choice(np.flatnonzero(np.array(trial) == min(trial)))))
        losses.append(trial[path[-1]])
    return path[: int(np.argmin(losses)) + 1]


@pytest.mark.parametrize("seed", range(10))
def test_never_worse_than_autogluon_on_the_same_input(seed: int) -> None:
    """In random problems without ties, which have one greedy path. (benchmarks/selection.py runs AutoGluon itself.)"""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 10.0, (12, 5))
    shared = rng.normal(0, 4, (12, 5))
    predictions = truth + shared + rng.normal(0, 1, (8, 12, 5)) * rng.uniform(3, 12, (8, 1, 1))
    selection = greedy(Gram(truth, predictions), [f"b{i % 3}" for i in range(8)], Options(steps=100))
    ours = weighted_r2(truth, np.einsum("m,mit->it", selection.weights, predictions))
    theirs = weighted_r2(truth, predictions[autogluon(truth, predictions, 100)].mean(axis=0))
    assert ours >= theirs - TIE


@given(problems())
def test_gram_scores_are_those_of_the_metric(problem: Problem) -> None:
    truth, predictions, _ = problem
    gram = Gram(truth, predictions)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(predictions)))
    score = weighted_r2(truth, np.einsum("m,mit->it", weights, predictions))
    matrix = np.column_stack([gram.column(j) for j in range(len(gram))])
    assert_allclose(gram.r2(weights), score, atol=1e-12)
    assert_allclose(1 - weights @ matrix @ weights / gram.total, score, atol=1e-12)
    assert_allclose(gram.members_r2(), [weighted_r2(truth, p) for p in predictions], atol=1e-12)
    assert_allclose(np.diag(matrix), gram.diagonal)


@pytest.fixture
def problem() -> Problem:
    """Thirty members of five backbones on twenty images, with errors in common."""
    rng = np.random.default_rng(3)
    truth = rng.gamma(2.0, 10.0, (20, 5))
    common = rng.normal(0, 4, (20, 5))
    predictions = truth + common + rng.normal(0, 1, (30, 20, 5)) * rng.uniform(3, 9, (30, 1, 1))
    return truth, predictions, [f"b{i % 5}" for i in range(30)]


def test_only_columns_of_picked_members_are_computed(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions, backbones = problem
    asked: set[int] = set()
    column = Gram.column
    monkeypatch.setattr(Gram, "column", lambda gram, member: asked.add(member) or column(gram, member))
    selection = greedy(Gram(truth, predictions), backbones, Options(steps=5))
    assert asked == set(selection.path)


def test_of_equal_members_the_known_backbone_then_the_first_is_taken() -> None:
    truth = np.arange(10.0).reshape(2, 5)
    error = np.zeros((2, 5))
    error[0, 0] = 1.0
    # After member 0 the others help alike: 2 and 3 add no backbone, and 2 comes first.
    predictions = truth + np.stack([error, -error, -error, -error]) * np.array([1.0, 2, 2, 2])[:, None, None]
    selection = greedy(Gram(truth, predictions), ["b0", "b1", "b0", "b0"], Options(steps=3))
    assert selection.path == (0, 2, 0)
    assert selection.curve[-1] == pytest.approx(1.0)


def test_a_single_member_has_all_the_weight(problem: Problem) -> None:
    truth, predictions, _ = problem
    selection = greedy(Gram(truth, predictions[:1]), ["b0"])
    assert selection.weights.tolist() == [1.0]
    assert selection.prefix == 1


def test_warm_start_begins_with_the_best_members_in_order(problem: Problem) -> None:
    truth, predictions, backbones = problem
    gram = Gram(truth, predictions)
    selection = greedy(gram, backbones, Options(steps=12, warm_start=8))
    assert list(selection.path[:8]) == np.argsort(gram.diagonal)[:8].tolist()
    assert len(selection.path) == 12
    longer = greedy(gram, backbones, Options(steps=40, warm_start=100))
    assert sorted(longer.path[:30]) == list(range(30))


@pytest.mark.parametrize("bags", [0, 10])
@pytest.mark.parametrize("warm_start", [0, 10])
def test_limits_hold(bags: int, warm_start: int, problem: Problem) -> None:
    truth, predictions, backbones = problem
    gram = Gram(truth, predictions)
    free = np.flatnonzero(greedy(gram, backbones, Options(bags=bags, warm_start=warm_start)).weights)
    assert len(free) > 3
    assert len({backbones[i] for i in free}) > 2
    options = Options(bags=bags, warm_start=warm_start, max_members=3, max_backbones=2)
    weights = greedy(gram, backbones, options).weights
    chosen = np.flatnonzero(weights)
    assert 1 <= len(chosen) <= 3
    assert len({backbones[i] for i in chosen}) <= 2
    assert weights.sum() == pytest.approx(1.0)


def test_minimum_gain_ends_the_path(problem: Problem) -> None:
    truth, predictions, backbones = problem
    gram = Gram(truth, predictions)
    plain, short = greedy(gram, backbones), greedy(gram, backbones, Options(min_gain=0.005))
    end = len(short.path)
    assert 1 < end < len(plain.path)
    assert short.path == plain.path[:end]
    assert (np.diff(short.curve) >= 0.005).all()
    assert plain.curve[end] - plain.curve[end - 1] < 0.005


def test_tiny_weights_are_shared_among_the_others(problem: Problem) -> None:
    truth, predictions, backbones = problem
    gram = Gram(truth, predictions)
    plain = greedy(gram, backbones).weights
    pruned = greedy(gram, backbones, Options(min_weight=0.08)).weights
    kept = plain >= 0.08
    assert 0 < kept.sum() < (plain > 0).sum()
    assert_allclose(pruned, np.where(kept, plain, 0) / plain[kept].sum())
    heaviest = greedy(gram, backbones, Options(min_weight=1.0)).weights
    assert heaviest.tolist() == np.eye(30)[plain.argmax()].tolist()


def test_bags_are_averaged_and_follow_the_seed(problem: Problem) -> None:
    truth, predictions, backbones = problem
    gram = Gram(truth, predictions)
    a, b, c = (greedy(gram, backbones, Options(bags=20, seed=seed)) for seed in (1, 1, 2))
    assert a.weights.tolist() == b.weights.tolist() != c.weights.tolist()
    assert a.weights.sum() == pytest.approx(1.0)
    assert (a.weights > 0).sum() > (greedy(gram, backbones).weights > 0).sum()
    assert (a.path, a.curve, a.prefix) == ((), (), 0)
    whole = greedy(gram, backbones, Options(bags=3, bag_fraction=1.0)).weights
    assert_allclose(whole, greedy(gram, backbones).weights)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"bags": -1}, {"bag_fraction": 1.5}, {"max_members": 0}, {"max_backbones": 0}, {"min_weight": -0.1}],
)
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(
        InputError, match=f"^selection option {name}={value}: Input should be (greater|less) than or equal to"
    ):
        Options(**wrong)  # type: ignore[arg-type]
