"""PLS against least squares and against a fit to repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasture.targets import Array
from trainables.fitted.pls import Pls

GENERATOR = np.random.default_rng(3)
FEATURES = GENERATOR.normal(size=(40, 6))
TARGETS = np.stack([3 + FEATURES @ np.arange(6), 5 - FEATURES[:, 0] + GENERATOR.normal(size=40)], axis=1)


def _fit(components: int, features: Array = FEATURES, targets: Array = TARGETS, weights: Array | None = None) -> Pls:
    model = Pls(features.shape[1], targets.shape[1], components)
    model.fit(features, None, targets, np.ones(len(features)) if weights is None else weights, seed=0)
    return model


def test_all_components_are_least_squares() -> None:
    model = _fit(6)
    design = np.column_stack([FEATURES, np.ones(40)])
    expected = np.linalg.lstsq(design, TARGETS, rcond=None)[0]
    np.testing.assert_allclose(model.coef, expected[:-1], atol=1e-8)
    np.testing.assert_allclose(model.intercept, expected[-1], atol=1e-8)


def test_the_first_component_is_the_direction_of_largest_covariance() -> None:
    model = _fit(1, targets=TARGETS[:, :1])
    covariance = (FEATURES - FEATURES.mean(axis=0)).T @ (TARGETS[:, 0] - TARGETS[:, 0].mean())
    cosine = covariance @ model.coef[:, 0].numpy() / np.linalg.norm(covariance) / np.linalg.norm(model.coef[:, 0])
    assert cosine == pytest.approx(1)


def test_a_weight_counts_as_repeated_rows_do() -> None:
    weights = np.where(np.arange(40) < 10, 3.0, 1.0)
    repeated = np.repeat(np.arange(40), weights.astype(int))
    once, often = _fit(6, weights=weights), _fit(6, FEATURES[repeated], TARGETS[repeated])
    np.testing.assert_allclose(once.coef, often.coef, atol=1e-6)
    np.testing.assert_allclose(once.intercept, often.intercept, atol=1e-6)


def test_predictions_end_at_the_largest_training_target() -> None:
    predicted = _fit(6)(torch.from_numpy(100 * FEATURES)).numpy()
    assert (predicted.max(axis=0) == TARGETS.max(axis=0)).all()


@pytest.mark.parametrize("rows", [2, 5])
def test_fewer_rows_than_components(rows: int) -> None:
    model = _fit(12, FEATURES[:rows], TARGETS[:rows])
    np.testing.assert_allclose(model(torch.from_numpy(FEATURES[:rows])).numpy(), TARGETS[:rows], atol=1e-6)
