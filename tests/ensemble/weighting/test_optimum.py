from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from ensemble.weighting.greedy import Gram, greedy
from ensemble.weighting.optimum import convex_optimum
from pasture.targets import Array


def random_gram(seed: int, members: int, images: int) -> Gram:
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 10.0, (images, 5))
    common = rng.normal(0, 5, (images, 5))
    errors = rng.normal(0, 1, (members, images, 5)) * rng.uniform(2, 15, (members, 1, 1))
    return Gram(truth, truth + common + errors)


def loss(gram: Gram, weights: Array, shrinkage: float = 0.0) -> float:
    return 1 - gram.r2(weights) + shrinkage * float(((weights - 1 / len(gram)) ** 2).sum())


@pytest.mark.parametrize("shrinkage", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(10))
def test_equals_a_reference_quadratic_programme(seed: int, shrinkage: float) -> None:
    gram = random_gram(seed, members=8, images=int(np.random.default_rng(seed).integers(2, 30)))
    weights = convex_optimum(gram, shrinkage)
    reference = minimize(
        lambda a: loss(gram, a, shrinkage),
        np.full(8, 1 / 8),
        method="SLSQP",
        bounds=[(0, 1)] * 8,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights >= 0).all()
    assert_allclose(weights, reference.x, atol=1e-4)
    assert loss(gram, weights, shrinkage) <= loss(gram, reference.x / reference.x.sum(), shrinkage) + 1e-12


@pytest.mark.parametrize(("members", "images"), [(3, 200), (40, 30), (300, 10)])
def test_no_member_could_improve_it(members: int, images: int) -> None:
    """Optimality over the simplex: no vertex lies downhill. It bounds the distance to the optimum from above."""
    gram = random_gram(members, members, images)
    blended = convex_optimum(gram) @ gram.residuals
    gap = (blended @ blended - (gram.residuals @ blended).min()) / gram.total
    assert gap < 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_greedy_comes_near_but_never_above(seed: int) -> None:
    gram = random_gram(seed, members=30, images=50)
    best, found = gram.r2(convex_optimum(gram)), gram.r2(greedy(gram, ["b"] * 30).weights)
    assert best - 1e-3 < found <= best + 1e-12


def test_copies_of_a_member_change_nothing() -> None:
    gram = random_gram(0, members=6, images=20)
    truth = np.random.default_rng(0).gamma(2.0, 10.0, (20, 5))
    predictions = gram.residuals.reshape(6, 20, 5) + truth
    single, doubled = Gram(truth, predictions), Gram(truth, np.concatenate([predictions, predictions]))
    assert doubled.r2(convex_optimum(doubled)) == pytest.approx(single.r2(convex_optimum(single)), abs=1e-12)


def test_a_single_member_and_a_perfect_one_have_all_the_weight() -> None:
    assert convex_optimum(random_gram(0, members=1, images=5)).tolist() == [1.0]
    truth = np.random.default_rng(0).gamma(2.0, 10.0, (6, 5))
    gram = Gram(truth, np.stack([truth + 1, truth, truth + 2]))
    assert_allclose(convex_optimum(gram), [0, 1, 0], atol=1e-12)


def test_shrinkage_leads_from_the_optimum_to_the_uniform_mean() -> None:
    gram = random_gram(1, members=10, images=20)
    distance = [float(((convex_optimum(gram, s) - 0.1) ** 2).sum()) for s in (0.0, 0.01, 0.1, 1.0, 1e6)]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 1e-9
