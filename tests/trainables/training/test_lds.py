"""Label-distribution smoothing against a few plain lines."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.recipe.sections import LabelSmoothing
from trainables.training.lds import lds_weights, smoothing_kernel

KERNELS = get_args(LabelSmoothing.model_fields["kernel"].annotation)
REWEIGHTINGS = get_args(LabelSmoothing.model_fields["reweighting"].annotation)
LABELS = np.concatenate([np.random.default_rng(0).gamma(3, 10, 60), [190.0, 0.0, 4.999, 5.0]])


def _reference(labels: list[float], config: LabelSmoothing) -> list[float]:
    """Weights by the definition: each label counts its neighbours, near ones more."""

    def closeness(bins: int) -> float:
        if abs(bins) > config.size // 2:
            return 0.0
        if config.kernel == "gaussian":
            return math.exp(-(bins**2) / (2 * config.sigma**2))
        if config.kernel == "laplace":
            return math.exp(-abs(bins) / config.sigma)
        return 1 - abs(bins) / (config.size // 2 + 1)

    bins = [math.floor(label / config.bin_g) for label in labels]
    density = [sum(closeness(mine - other) for other in bins) for mine in bins]
    weights = [1 / (d if config.reweighting == "inverse" else math.sqrt(d)) for d in density]
    return [w * len(weights) / sum(weights) for w in weights]


@pytest.mark.parametrize("reweighting", REWEIGHTINGS)
@pytest.mark.parametrize("kernel", KERNELS)
@given(
    labels=st.lists(st.floats(0, 250), min_size=1, max_size=40),
    size=st.sampled_from([1, 3, 5, 21]),
    sigma=st.floats(0.3, 8),
    bin_g=st.sampled_from([1.0, 5.0, 40.0]),
)
def test_weights_follow_the_definition(
    kernel: str, reweighting: str, labels: list[float], size: int, sigma: float, bin_g: float
) -> None:
    config = LabelSmoothing.model_validate(
        {"kernel": kernel, "reweighting": reweighting, "size": size, "sigma": sigma, "bin_g": bin_g}
    )
    weights = lds_weights(np.array(labels), config)
    np.testing.assert_allclose(weights, _reference(labels, config), rtol=1e-9)
    assert weights.mean() == pytest.approx(1)
    assert (weights > 0).all()


@pytest.mark.parametrize("reweighting", REWEIGHTINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_rare_labels_weigh_more(kernel: str, reweighting: str) -> None:
    weights = lds_weights(LABELS, LabelSmoothing.model_validate({"kernel": kernel, "reweighting": reweighting}))
    assert weights.argmax() == LABELS.argmax()
    assert weights[LABELS > 100].min() > 2 * np.median(weights)


def test_inverse_is_the_square_of_its_root() -> None:
    inverse = lds_weights(LABELS, LabelSmoothing(reweighting="inverse"))
    root = lds_weights(LABELS, LabelSmoothing(reweighting="sqrt_inverse"))
    np.testing.assert_allclose(inverse / inverse[0], (root / root[0]) ** 2)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 5, 51])
def test_kernels_are_symmetric_and_sum_to_one(kernel: str, size: int) -> None:
    values = smoothing_kernel(LabelSmoothing.model_validate({"kernel": kernel, "size": size, "sigma": 1.5}))
    assert values.shape == (size,)
    assert values.sum() == pytest.approx(1)
    np.testing.assert_allclose(values, values[::-1])
    assert (np.diff(values[: size // 2 + 1]) > 0).all()
    assert (values > 0).all()


def test_kernels_by_hand() -> None:
    def kernel(kind: str) -> np.ndarray:
        return smoothing_kernel(LabelSmoothing.model_validate({"kernel": kind, "size": 3, "sigma": 2.0}))

    side, peak = math.exp(-0.125), 1.0
    np.testing.assert_allclose(kernel("gaussian"), np.array([side, peak, side]) / (peak + 2 * side))
    side = math.exp(-0.5)
    np.testing.assert_allclose(kernel("laplace"), np.array([side, peak, side]) / (peak + 2 * side))
    np.testing.assert_allclose(kernel("triangular"), [0.25, 0.5, 0.25])


def test_without_smoothing_a_weight_is_one_over_the_count() -> None:
    weights = lds_weights(np.array([1.0, 2, 3, 7]), LabelSmoothing(size=1, reweighting="inverse"))
    np.testing.assert_allclose(weights, np.array([1, 1, 1, 3]) * 4 / 6)
