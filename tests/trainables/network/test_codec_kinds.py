"""What each kind of target promises, for any raw output and any labels."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from pasture.targets import BALANCE, CLOVER, COMPONENTS, DEAD, GDM, GREEN, TOTAL, balance_gap
from trainables.network.target_codec import TargetCodec, inverse_softplus
from trainables.recipe.sections import Target

KINDS = get_args(Target.model_fields["kind"].annotation)
TRANSFORMS = get_args(Target.model_fields["transform"].annotation)
SHARED = ("ratios", "dead_ratio", "scalar")
"""Kinds whose targets have no statistics of their own."""
COMBINATIONS = [(k, t) for k in KINDS for t in TRANSFORMS if not (k in SHARED and t in ("z", "log1p_z"))]

raws = arrays(np.float32, (3, 4), elements=st.floats(-60, 60, width=32))
components = arrays(np.float64, (6, 3), elements=st.floats(0.5, 150))


def codec_of(kind: str, transform: str = "none", grams: Tensor | None = None) -> TargetCodec:
    codec = TargetCodec(Target.model_validate({"kind": kind, "transform": transform}))
    if grams is not None:
        codec.fit(grams)
    return codec


def grams_of(parts: np.ndarray) -> Tensor:
    return torch.from_numpy(parts @ BALANCE.T).float()


@pytest.mark.parametrize("transform", ["none", "log1p"])
@pytest.mark.parametrize("kind", ["ratios", "dead_ratio"])
@given(raw=raws)
def test_ratios_always_balance(kind: str, transform: str, raw: np.ndarray) -> None:
    codec = codec_of(kind, transform)
    grams = codec.decode(codec.expand(torch.from_numpy(raw)[:, : codec.outputs])).double().numpy()
    assert np.isfinite(grams).all()
    assert grams.min() >= -1e-6
    assert balance_gap(grams).max() <= 1e-4 * max(1.0, grams.max())


def test_ratios_by_hand() -> None:
    # Total 20, proportions 1/2, 1/4, 1/4
    raw = torch.cat([inverse_softplus(torch.tensor([20.0])), torch.tensor([2.0, 1.0, 1.0]).log()]).view(1, 4)
    codec = codec_of("ratios")
    expected = [10.0, 5.0, 5.0, 15.0, 20.0]
    assert codec.decode(codec.expand(raw))[0].tolist() == pytest.approx(expected, rel=1e-5)
    logs = codec_of("ratios", "log1p")
    assert logs.expand(raw)[0].tolist() == pytest.approx(np.log1p(expected), rel=1e-5)
    assert logs.decode(logs.expand(raw))[0].tolist() == pytest.approx(expected, rel=1e-4)


def test_dead_ratio_by_hand() -> None:
    # Total 20, a quarter of it Dead, a third of the rest Clover
    shares = torch.tensor([0.25, 1 / 3]).logit()
    raw = torch.cat([inverse_softplus(torch.tensor([20.0])), shares]).view(1, 3)
    codec = codec_of("dead_ratio", "sqrt")
    expected = [10.0, 5.0, 5.0, 15.0, 20.0]
    assert codec.expand(raw)[0].tolist() == pytest.approx(np.sqrt(expected), rel=1e-5)
    assert codec.decode(codec.expand(raw))[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_z_by_hand() -> None:
    grams = torch.tensor([[1.0, 2.0, 3.0, 4.0, 6.0], [3.0, 4.0, 9.0, 12.0, 16.0]])
    codec = codec_of("five", "z", grams)
    assert codec.encode(grams).tolist() == [[-1.0] * 5, [1.0] * 5]
    assert codec.decode(torch.tensor([[0.0, 1.0, 2.0, -1.0, 3.0]])).tolist() == [[2.0, 4.0, 12.0, 4.0, 26.0]]


@pytest.mark.parametrize("kind", ["ratios", "dead_ratio"])
@given(raw=raws)
def test_ratios_are_differentiable_everywhere(kind: str, raw: np.ndarray) -> None:
    x = torch.from_numpy(raw)[:, : codec_of(kind).outputs].requires_grad_()
    codec_of(kind).expand(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@given(raw=arrays(np.float32, (3, 3), elements=st.floats(-100, 100, width=32)))
def test_primary_balances_by_construction(raw: np.ndarray) -> None:
    grams = codec_of("primary").decode(torch.from_numpy(raw)).double().numpy()
    assert balance_gap(grams).max() < 1e-4


def test_four_and_primary_by_hand() -> None:
    # Total 50, GDM 30, Green 18: Dead = 20; Clover is 12 by difference, or what the fourth output says
    three = codec_of("primary").decode(torch.tensor([[50.0, 30.0, 18.0]]))[0]
    clover = codec_of("clover").decode(torch.tensor([[50.0, 30.0, 12.0]]))[0]
    four = codec_of("four").decode(torch.tensor([[50.0, 30.0, 18.0, 9.0]]))[0]
    assert three.tolist() == [18.0, 20.0, 12.0, 30.0, 50.0]
    assert clover.tolist() == three.tolist()
    assert four.tolist() == [18.0, 20.0, 9.0, 30.0, 50.0]


def test_one_number_is_said_of_all_five() -> None:
    codec = codec_of("scalar", "log1p")
    encoded = codec.expand(torch.tensor([[1.0], [2.0]]))
    assert encoded.shape == (2, 5)
    assert codec.decode(encoded)[1].tolist() == pytest.approx([np.expm1(2.0)] * 5)


@pytest.mark.parametrize(
    ("kind", "outputs", "columns"),
    [
        ("five", 5, [GREEN, DEAD, CLOVER, GDM, TOTAL]),
        ("primary", 3, [TOTAL, GDM, GREEN]),
        ("four", 4, [TOTAL, GDM, GREEN, CLOVER]),
        ("clover", 3, [TOTAL, GDM, CLOVER]),
        ("dead_ratio", 3, [GREEN, DEAD, CLOVER, GDM, TOTAL]),
        ("ratios", 4, [GREEN, DEAD, CLOVER, GDM, TOTAL]),
        ("scalar", 1, [GREEN, DEAD, CLOVER, GDM, TOTAL]),
    ],
)
def test_outputs_and_columns(kind: str, outputs: int, columns: list[int]) -> None:
    assert codec_of(kind).outputs == outputs
    assert codec_of(kind).columns == columns


@pytest.mark.heavy
@given(parts=components)
def test_the_start_predicts_the_mean(parts: np.ndarray) -> None:
    grams = grams_of(parts)
    for kind, transform in COMBINATIONS:
        codec = codec_of(kind, transform, grams)
        start = codec.start(grams)
        assert start.shape == (codec.outputs,)
        encoded = codec.expand(start.view(1, -1))[0].numpy()
        mean, tolerance = codec.encode(grams).numpy().mean(axis=0), 1e-3
        if kind == "scalar":  # one number for all: the mean over targets too
            mean = np.full(5, mean.mean())
        if kind in ("components", "ratios", "dead_ratio"):  # the mean of the grams, whatever the transform
            mean, tolerance = codec.encode(grams.mean(dim=0, keepdim=True))[0].numpy(), 0.02 * float(grams.mean())
        assert encoded == pytest.approx(mean, rel=1e-3, abs=tolerance), (kind, transform)


def test_the_start_of_ratios_without_clover() -> None:
    grams = torch.tensor([[10.0, 30.0, 0.0, 10.0, 40.0]])
    codec = codec_of("ratios")
    start = codec.start(grams)
    assert start.isfinite().all()
    assert codec.decode(codec.expand(start.view(1, -1)))[0].tolist() == pytest.approx(grams[0].tolist(), abs=0.1)


@pytest.mark.heavy
@given(parts=components)
def test_encoding_is_undone(parts: np.ndarray) -> None:
    grams = grams_of(parts)
    for kind, transform in COMBINATIONS:
        if kind not in SHARED:
            codec = codec_of(kind, transform, grams)
            decoded = codec.decode(codec.encode(grams)).numpy()
            np.testing.assert_allclose(decoded, grams, rtol=1e-3, atol=5e-3, err_msg=f"{kind}, {transform}")
            assert decoded[:, list(COMPONENTS)].shape == (len(parts), 3)


@given(value=st.floats(1e-3, 1e4))
def test_inverse_softplus(value: float) -> None:
    raw = inverse_softplus(torch.tensor([value], dtype=torch.float64))
    assert float(torch.nn.functional.softplus(raw)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("fields", [{"kind": kind} for kind in SHARED])
def test_kinds_without_columns_of_their_own_are_not_standardised(fields: dict[str, Any]) -> None:
    codec = TargetCodec(Target.model_validate(fields | {"transform": "log1p"}))
    codec.fit(torch.rand(5, 5))
    assert codec.mean.tolist() == [0.0] * 5
    assert codec.std.tolist() == [1.0] * 5
