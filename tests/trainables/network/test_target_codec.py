"""Encoding and decoding of targets."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from pasture.targets import from_components
from trainables.network.target_codec import TargetCodec
from trainables.recipe.sections import Target

CONFIGS = [
    Target(kind=kind, transform=transform)
    for kind in get_args(Target.model_fields["kind"].annotation)
    for transform in get_args(Target.model_fields["transform"].annotation)
]
PLAIN = [c for c in CONFIGS if c.kind in ("five", "primary")]
LOGS = [c for c in CONFIGS if c.transform.startswith("log")]
COMPONENTS = arrays(np.float64, (6, 3), elements=st.floats(0, 300))
FIT = torch.from_numpy(from_components(np.random.default_rng(0).gamma(2, 15, (30, 3)))).float()
LARGEST = torch.from_numpy(from_components(np.full((1, 3), 300.0))).float()


def _name(config: Target) -> str:
    return f"{config.kind}-{config.transform}"


def assert_close(actual: Tensor, expected: Tensor, rtol: float, atol: float, config: Target) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda text: f"{_name(config)}: {text}")


@pytest.mark.heavy
@given(components=COMPONENTS)
def test_decoding_undoes_encoding(components: np.ndarray) -> None:
    grams = torch.from_numpy(from_components(components)).float()
    for config in CONFIGS:
        codec = TargetCodec(config)
        codec.fit(torch.cat([FIT, LARGEST]))
        encoded = codec.encode(grams)
        assert encoded.shape == (6, len(codec.columns)), config
        assert_close(codec.decode(encoded), grams, 1e-4, 5e-3, config)


@given(values=arrays(np.float32, (4, 5), elements=st.floats(-1, 1, width=32)))
def test_encoding_undoes_decoding(values: np.ndarray) -> None:
    for config in PLAIN:
        codec = TargetCodec(config)
        codec.fit(FIT)
        # About what a network would predict: near the training fold, out of balance.
        encoded = codec.encode(FIT).mean(dim=0) + torch.from_numpy(values[:, : codec.outputs]) * 0.3
        assert_close(codec.encode(codec.decode(encoded)), encoded, 1e-3, 1e-3, config)


def test_log1p_by_hand() -> None:
    codec = TargetCodec(Target(transform="log1p"))
    grams = torch.tensor([[0.0, np.e - 1, np.e**2 - 1, 99.0, 0.0]])
    torch.testing.assert_close(codec.encode(grams), torch.tensor([[0.0, 1.0, 2.0, np.log(100.0), 0.0]]).float())


def test_sqrt_by_hand() -> None:
    codec = TargetCodec(Target(transform="sqrt"))
    grams = torch.tensor([[0.0, 1.0, 4.0, 100.0, 2.25]])
    torch.testing.assert_close(codec.encode(grams), torch.tensor([[0.0, 1.0, 2.0, 10.0, 1.5]]))
    assert codec.decode(torch.full((1, 5), -3.0)).tolist() == [[0.0] * 5]


def test_z_statistics_are_those_of_the_fitted_rows() -> None:
    codec = TargetCodec(Target(transform="log1p_z"))
    codec.fit(FIT)
    logs = np.log1p(FIT.numpy())
    np.testing.assert_allclose(codec.mean, logs.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(codec.std, logs.std(axis=0), rtol=1e-4)
    own = codec.encode(FIT)
    torch.testing.assert_close(own.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.std(dim=0, correction=0), torch.ones(5))
    before = codec.mean.clone(), codec.std.clone()
    codec.encode(FIT * 10)
    codec.decode(FIT)
    assert torch.equal(codec.mean, before[0])
    assert torch.equal(codec.std, before[1])


def test_a_constant_target_divides_by_no_zero() -> None:
    codec = TargetCodec(Target(transform="log1p_z"))
    codec.fit(torch.zeros(4, 5))
    assert torch.isfinite(codec.encode(FIT)).all()


@pytest.mark.parametrize("transform", ["none", "sqrt", "log1p"])
def test_other_transforms_fit_nothing(transform: str) -> None:
    codec = TargetCodec(Target(transform=transform))  # type: ignore[arg-type]
    codec.fit(FIT)
    assert codec.mean.tolist() == [0] * 5
    assert codec.std.tolist() == [1] * 5


def test_statistics_are_saved_with_the_weights() -> None:
    codec, other = TargetCodec(Target(transform="log1p_z")), TargetCodec(Target(transform="log1p_z"))
    codec.fit(FIT)
    assert set(codec.state_dict()) == {"mean", "std", "ceiling"}
    other.load_state_dict(codec.state_dict())
    assert torch.equal(other.encode(FIT), codec.encode(FIT))


def test_primary_predicts_total_gdm_green_and_derives_the_rest() -> None:
    codec = TargetCodec(Target(kind="primary", transform="none"))
    assert codec.outputs == 3
    assert codec.decode(torch.tensor([[10.0, 7.0, 4.0]])).tolist() == [[4.0, 3.0, 3.0, 7.0, 10.0]]
    assert codec.encode(torch.tensor([[4.0, 3.0, 3.0, 7.0, 10.0]])).tolist() == [[10.0, 7.0, 4.0]]


def test_five_keeps_the_order_of_targets() -> None:
    codec = TargetCodec(Target(transform="none"))
    grams = torch.arange(5.0)[None]
    assert torch.equal(codec.encode(grams), grams)


@pytest.mark.parametrize("config", LOGS, ids=_name)
def test_a_wild_prediction_stays_finite(config: Target) -> None:
    codec = TargetCodec(config)
    assert torch.isfinite(codec.decode(torch.full((1, len(codec.columns)), 1e6))).all()


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_decoding_is_differentiable(config: Target) -> None:
    codec = TargetCodec(config)
    encoded = torch.ones(2, len(codec.columns), requires_grad=True)
    codec.decode(encoded).sum().backward()
    assert encoded.grad is not None
    # Of primary, Dead and Clover are differences, in which some predictions cancel: Total counts twice.
    assert (encoded.grad[:, 0] > 0).all()


@pytest.mark.parametrize("transform", ["log1p", "log1p_z"])
def test_logarithms_are_clipped_at_the_largest_of_the_fitted_rows(transform: str) -> None:
    codec = TargetCodec(Target(transform=transform))  # type: ignore[arg-type]
    codec.fit(FIT)
    decoded = codec.decode(codec.encode(10 * FIT))
    torch.testing.assert_close(decoded.max(dim=0).values, FIT.max(dim=0).values, rtol=1e-4, atol=1e-3)
    restored = TargetCodec(Target(transform=transform))  # type: ignore[arg-type]
    restored.load_state_dict(codec.state_dict())
    assert torch.equal(restored.decode(codec.encode(10 * FIT)), decoded)
