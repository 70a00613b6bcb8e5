"""Ridge regression against plain lines: the closed form, and leaving out one row after another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pasture.targets import Array
from trainables.fitted.ridge import ALPHAS, Ridge
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.trial.trial import Trial

GENERATOR = np.random.default_rng(5)
WEIGHTS = GENERATOR.uniform(0.4, 1.6, 40)


def _problem(width: int) -> tuple[Array, Array]:
    """Standardised features (40, width), and two targets: one that they say, one that is noise."""
    generator = np.random.default_rng(width)
    features = generator.normal(size=(40, width))
    features = (features - np.average(features, axis=0, weights=WEIGHTS)) / features.std(axis=0)
    signal = 30 + 5 * features[:, 0] + generator.normal(size=40) * 0.5
    return features, np.clip(np.stack([signal, 30 + 5 * generator.normal(size=40)], axis=1), 0, None)


def _closed_form(features: Array, target: Array, weights: Array, alpha: float) -> tuple[Array, float]:
    """Coefficients and intercept that minimise sum w (y - x b - c)^2 + alpha |b|^2."""
    mean, middle = np.average(features, axis=0, weights=weights), float(np.average(target, weights=weights))
    x, y = features - mean, target - middle
    coef = np.linalg.solve(x.T @ (x * weights[:, None]) + alpha * np.eye(x.shape[1]), x.T @ (weights * y))
    return coef, middle - float(mean @ coef)


def _left_out_error(features: Array, target: Array, weights: Array, alpha: float) -> float:
    """Weighted squared error of each row, predicted by a fit to all others."""
    error = 0.0
    for i in range(len(target)):
        kept = np.arange(len(target)) != i
        coef, intercept = _closed_form(features[kept], target[kept], weights[kept], alpha)
        error += weights[i] * (target[i] - features[i] @ coef - intercept) ** 2
    return error


def _fit(features: Array, grams: Array, axes: Array | None = None) -> Ridge:
    ridge = Ridge(features.shape[1], grams.shape[1])
    ridge.fit(features, axes, grams, WEIGHTS, seed=0)
    return ridge


@pytest.mark.parametrize("components", [0, 5])
@pytest.mark.parametrize("width", [8, 60])
def test_the_models_are_the_closed_form_at_the_best_left_out_alpha(width: int, components: int) -> None:
    features, grams = _problem(width)
    axes = np.linalg.svd(features)[2][:components].T if components else None
    ridge = _fit(features, grams, axes)
    design = features if axes is None else features @ axes
    for i, target in enumerate(np.concatenate([grams, np.log1p(grams)], axis=1).T):
        best = min(ALPHAS, key=lambda alpha: _left_out_error(design, target, WEIGHTS, alpha))
        assert ridge.alphas[i] == pytest.approx(best)
        coef, intercept = _closed_form(design, target, WEIGHTS, best)
        np.testing.assert_allclose(ridge.coef[:, i], coef if axes is None else axes @ coef, rtol=1e-6, atol=1e-9)
        assert float(ridge.intercept[i]) == pytest.approx(intercept)


@pytest.mark.parametrize("components", [0, 5])
def test_a_fixed_penalty_grows_with_the_number_of_features(components: int) -> None:
    features, grams = _problem(60)
    axes = np.linalg.svd(features)[2][:components].T if components else None
    ridge = Ridge(60, 2, penalty=0.03)
    ridge.fit(features, axes, grams, WEIGHTS, seed=0)
    design = features if axes is None else features @ axes
    assert ridge.alphas.tolist() == pytest.approx([0.03 * (components or 60)] * 4)
    for i, target in enumerate(np.concatenate([grams, np.log1p(grams)], axis=1).T):
        coef, intercept = _closed_form(design, target, WEIGHTS, 0.03 * (components or 60))
        np.testing.assert_allclose(ridge.coef[:, i], coef if axes is None else axes @ coef, rtol=1e-6, atol=1e-9)
        assert float(ridge.intercept[i]) == pytest.approx(intercept)


@pytest.mark.parametrize("penalty", [0.0, 0.03])
def test_a_fixed_penalty_is_fitted_to_the_mean_over_d4(
    make_trial: Callable[..., Trial], frozen_recipe: Recipe, penalty: float
) -> None:
    """Leave-one-out gets the unaugmented photograph alone."""
    trial = make_trial(frozen_recipe.with_overrides({"head.kind": "ridge", "head.penalty": penalty}), epochs=1)
    learner = trial.executor.learners[0]  # type: ignore[attr-defined]
    elements = d4.ALL if penalty else (d4.IDENTITY,)
    features = torch.stack([learner._features(learner.rows, element) for element in elements]).mean(dim=0)
    np.testing.assert_allclose(learner.net.model.mean, features.double().mean(dim=0), rtol=1e-6, atol=1e-9)
    assert (len(set(learner.net.model.model.alphas.tolist())) == 1) == bool(penalty)


def test_a_signal_is_shrunk_little_and_noise_much() -> None:
    signal, noise, log_signal, log_noise = _fit(*_problem(60)).alphas.tolist()
    assert max(signal, log_signal) * 10 < min(noise, log_noise)


def test_raw_and_log_are_blended_half_and_half_the_log_up_to_the_largest_of_training() -> None:
    ridge = Ridge(1, 1)
    ridge.coef, ridge.intercept = torch.tensor([[2.0, 1.0]]).double(), torch.tensor([10.0, 0.0]).double()
    ridge.ceiling = torch.tensor([4.0]).double()
    predicted = ridge(torch.tensor([[0.0], [3.0], [7.0]]).double())
    np.testing.assert_allclose(predicted[:, 0], [10 / 2, (16 + np.expm1(3)) / 2, (24 + np.expm1(4)) / 2])
    features, grams = _problem(8)
    np.testing.assert_allclose(_fit(features, grams).ceiling, np.log1p(grams.max(axis=0)))


def test_a_wild_prediction_stays_finite() -> None:
    features, grams = _problem(8)
    assert torch.isfinite(_fit(features, grams)(torch.full((1, 8), 1e9).double())).all()
