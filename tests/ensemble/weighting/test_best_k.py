"""The mean of the k best members: which are taken, and that k is chosen on dates held out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ensemble.weighting.auto import blend_predictions
from ensemble.weighting.best_k import best_k
from ensemble.weighting.library import Library
from ensemble.weighting.methods import fit_method
from ensemble.weighting.nested import standard_error
from ensemble.weighting.options import Options
from pasture.metric import weighted_r2
from pasture.targets import WEIGHTS, Array, balance_gap, from_components

OWN = [f"backbone {i}" for i in range(12)]
"""Every member has its own backbone."""


def members(seed: int, spread: Array, dates: int = 20, images: int = 4) -> tuple[Array, Array, Array]:
    """(n, 5) truth, (m, n, 5) predictions with errors of their own of some sizes in grams, and (n,) dates."""
    rng = np.random.default_rng(seed)
    day = np.arange(dates).repeat(images)
    components = rng.gamma(4.0, 1 / 4, (len(day), 3)) * [25.0, 10.0, 6.0]
    errors = rng.normal(0, 1, (len(spread), len(day), 3)) * spread[:, None, None]
    return from_components(components), from_components((components + errors).clip(0)), day


def test_equal_weights_go_to_the_best_and_none_to_members_far_behind() -> None:
    truth, predictions, day = members(0, np.array([3.0, 40.0, 3.0, 3.0, 40.0, 3.0]))
    weights = fit_method("best-k", Library.of_arrays(truth, predictions, day), Options())
    assert_allclose(weights, np.repeat([[0.25], [0], [0.25], [0.25], [0], [0.25]], 5, axis=1))


def test_of_equally_good_members_more_are_taken_than_the_best_few() -> None:
    """The rule prefers a large k: here it takes nearly all where the least loss takes fewer."""
    ks, least = [], []
    for seed in range(20):
        truth, predictions, day = members(seed, np.full(10, 6.0))
        residuals = (predictions - truth) * np.sqrt(WEIGHTS)
        ks.append(len(best_k(residuals, day, OWN[:10])))
        least.append(int(held_out_losses(residuals, day, OWN[:10]).sum(axis=0).argmin()) + 1)
    assert np.mean(ks) > np.mean(least)
    assert min(k - few for k, few in zip(ks, least, strict=True)) >= 0
    assert np.mean(ks) > 9


def mean(residuals: Array, backbones: list[str]) -> Array:
    """The mean over backbones of the mean of the members of each."""
    return np.mean([residuals[[b == name for b in backbones]].mean(axis=0) for name in set(backbones)], axis=0)


def held_out_losses(residuals: Array, day: Array, backbones: list[str]) -> Array:
    """(dates, m) loss on each date of the mean of the k best on the other dates, for every k: one after another."""
    losses = []
    for date in np.unique(day):
        out = day == date
        order = sorted(range(len(residuals)), key=lambda i: float((residuals[i, ~out] ** 2).sum()))
        firsts = [order[:k] for k in range(1, len(residuals) + 1)]
        losses.append([(mean(residuals[k][:, out], [backbones[i] for i in k]) ** 2).sum() for k in firsts])
    return np.array(losses)


@pytest.mark.parametrize("backbones", [OWN, ["a", "b", "c"] * 4], ids=["own", "three"])
@pytest.mark.parametrize("seed", range(5))
def test_k_is_the_largest_within_two_standard_errors_of_the_best_on_dates_held_out(
    seed: int, backbones: list[str]
) -> None:
    truth, predictions, day = members(seed, np.linspace(5, 25, 12))
    residuals = (predictions - truth) * np.sqrt(WEIGHTS)
    losses = held_out_losses(residuals, day, backbones)
    excess = losses - losses[:, [losses.sum(axis=0).argmin()]]
    k = max(k for k in range(12) if excess[:, k].sum() <= 2 * standard_error(excess[:, k])) + 1
    best = sorted(range(12), key=lambda i: float((residuals[i] ** 2).sum()))[:k]
    assert best_k(residuals, day, backbones).tolist() == sorted(best)
    assert 1 < k < 12


def test_backbones_weigh_the_same_however_many_members_they_have() -> None:
    truth, predictions, day = members(0, np.full(6, 3.0))
    library = Library.of_arrays(truth, predictions, day, backbones=["a", "b", "a", "a", "c", "a"])
    weights = fit_method("best-k", library, Options())[:, 0]
    assert_allclose(weights, np.array([1 / 4, 1, 1 / 4, 1 / 4, 1, 1 / 4]) / 3)


def test_a_backbone_that_is_far_behind_is_left_out_though_it_has_one_member_of_many() -> None:
    """In a plain mean of thirteen it would hardly be noticed; with half of the weight it would be."""
    truth, predictions, day = members(0, np.array([6.0] * 12 + [14.0]))
    library = Library.of_arrays(truth, predictions, day, backbones=["good"] * 12 + ["poor"])
    weights = fit_method("best-k", library, Options())[:, 0]
    assert_allclose(weights, [1 / 12] * 12 + [0])
    assert (fit_method("best-k", Library.of_arrays(truth, predictions, day), Options())[:, 0] > 0).all()


def test_one_date_gives_nothing_to_choose_by() -> None:
    truth, predictions, day = members(0, np.array([3.0, 40.0, 3.0]), dates=1)
    assert best_k((predictions - truth) * np.sqrt(WEIGHTS), day, OWN[:3]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", ["uniform", "best-k", "greedy", "ridge", "auto"])
def test_a_blend_of_arrays_predicts_other_images(method: str) -> None:
    truth, predictions, day = members(1, np.array([5.0, 5.0, 6.0, 6.0]), dates=24)
    seen = day < 12
    blended = blend_predictions(method, truth[seen], predictions[:, seen], day[seen], predictions[:, ~seen])
    assert blended.shape == truth[~seen].shape
    assert balance_gap(blended).max() < 1e-9
    assert blended.min() >= 0
    alone = [weighted_r2(truth[~seen], p[~seen]) for p in predictions]
    assert weighted_r2(truth[~seen], blended) > max(alone)
    if method == "uniform":
        assert_allclose(blended, predictions[:, ~seen].mean(axis=0))


def test_members_that_differ_in_their_seed_only_share_the_weight_of_one() -> None:
    """Their mean is weighed as one member: by every method the weights of a recipe do not grow with its seeds."""
    truth, predictions, day = members(2, np.array([5.0, 5.0, 5.0, 6.0, 7.0]))
    library = Library.of_arrays(truth, predictions, day, recipes=["a", "b", "a", "c", "a"])
    assert_allclose(fit_method("uniform", library, Options())[:, 0], np.array([1, 3, 1, 3, 1]) / 9)
    mean = Library.of_arrays(truth, np.stack([predictions[[0, 2, 4]].mean(axis=0), *predictions[[1, 3]]]), day)
    for method in ("best-k", "greedy", "simplex", "ridge"):
        expected = fit_method(method, mean, Options())
        weights = fit_method(method, library, Options())
        assert_allclose(weights[[0, 2, 4]], np.tile(expected[0] / 3, (3, 1)), atol=1e-9)
        assert_allclose(weights[[1, 3]], expected[1:], atol=1e-9)
    one = fit_method("greedy", library, Options(max_members=1))
    assert one.any(axis=1).tolist() in ([True, False, True, False, True], [False, True, False, False, False])
