"""The terms of the loss, one by one, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from pasture.targets import BALANCE
from trainables.network.model import Batch, BiomassNet
from trainables.network.target_codec import TargetCodec
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Loss, Target
from trainables.training.losses import Truth, auxiliary, consistency, loss, proportions, regression, target_weights


def config(**fields: Any) -> Loss:
    return Loss.model_validate({"kind": "mse", "weights": "equal", **fields})


def codec_of(kind: str, transform: str = "none") -> TargetCodec:
    return TargetCodec(Target.model_validate({"kind": kind, "transform": transform}))


def truth_of(grams: Tensor, **more: Tensor) -> Truth:
    return Truth(grams, torch.ones(len(grams)), **more)


components = arrays(np.float64, (4, 3), elements=st.floats(0.1, 100))


def grams_of(parts: np.ndarray) -> Tensor:
    return torch.from_numpy(parts @ BALANCE.T)


def test_divergence_of_proportions_by_hand() -> None:
    # true (1/2, 1/4, 1/4), predicted (1/4, 1/4, 1/2): 1/2 ln 2 + 0 - 1/4 ln 2
    truth = torch.tensor([[20.0, 10.0, 10.0, 30.0, 40.0]])
    predicted = torch.tensor([[5.0, 5.0, 10.0, 15.0, 20.0]])
    assert float(proportions(predicted, truth)) == pytest.approx(0.25 * math.log(2), rel=1e-5)
    both = proportions(torch.cat([predicted, truth]), torch.cat([truth, truth]), torch.tensor([0.5, 1.5]))
    assert float(both) == pytest.approx(0.5 * 0.25 * math.log(2) / 2, rel=1e-5)


@given(parts=components, scale=st.floats(0.1, 10))
def test_divergence_is_zero_at_the_truth_whatever_the_mass(parts: np.ndarray, scale: float) -> None:
    truth = grams_of(parts)
    assert abs(float(proportions(truth * scale, truth))) < 1e-9


@given(first=components, second=components)
def test_divergence_is_never_negative(first: np.ndarray, second: np.ndarray) -> None:
    assert float(proportions(grams_of(first), grams_of(second))) >= -1e-12


@given(parts=components, order=st.permutations(range(3)))
def test_divergence_compares_the_same_components(parts: np.ndarray, order: list[int]) -> None:
    # The public code compares different ones: then a permutation of one side would not matter as it must.
    truth, mixed = grams_of(parts), grams_of(parts[:, order])
    p, q = (x / x.sum(axis=1, keepdims=True) for x in (parts, parts[:, order]))
    expected = (p * np.log(p / q)).sum(axis=1).mean()
    assert float(proportions(mixed, truth)) == pytest.approx(expected, abs=1e-9)


def test_divergence_with_nothing_there_has_a_gradient() -> None:
    predicted = torch.tensor([[-3.0, 10.0, 0.0, 0.0, 10.0]], requires_grad=True)
    value = proportions(predicted, torch.tensor([[5.0, 5.0, 0.0, 5.0, 10.0]]))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "share", "error", "expected"),
    [
        ("smooth_l1", 0.5, 3.0, 0.5 * 2.5 + 0.5 * 9.0),
        ("smooth_l1", 0.5, 0.5, 0.5 * 0.125 + 0.5 * 0.25),
        ("smooth_l1", 1.0, 3.0, 9.0),
        ("huber", 0.25, 3.0, 0.75 * 2.5 + 0.25 * 9.0),
        ("mse", 0.7, 3.0, 9.0),
    ],
)
def test_blend_with_the_squared_error_by_hand(kind: str, share: float, error: float, expected: float) -> None:
    value = regression(config(kind=kind, mse_share=share), torch.tensor([error]), torch.zeros(1))
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "weights", "expected"),
    [
        ("four", "total", [3 / 6, 1 / 6, 1 / 6, 1 / 6]),
        ("five", "total", [1 / 7, 1 / 7, 1 / 7, 1 / 7, 3 / 7]),
        ("primary", "total", [3 / 5, 1 / 5, 1 / 5]),
        ("primary", "competition", [0.5 / 0.8, 0.2 / 0.8, 0.1 / 0.8]),
        ("four", "competition", [0.5 / 0.9, 0.2 / 0.9, 0.1 / 0.9, 0.1 / 0.9]),
        ("scalar", "equal", [0.2] * 5),
    ],
)
def test_target_weights_by_hand(kind: str, weights: str, expected: list[float]) -> None:
    assert target_weights(config(weights=weights), codec_of(kind)).tolist() == pytest.approx(expected)


def test_consistency_and_proportions_are_in_grams_whatever_the_transform() -> None:
    grams = torch.tensor([[10.0, 5.0, 5.0, 18.0, 30.0]])
    truth = truth_of(torch.tensor([[20.0, 10.0, 10.0, 30.0, 40.0]]))
    for transform in ("none", "log1p"):
        codec = codec_of("five", transform)
        encoded = codec.encode(grams).unsqueeze(1)
        plain = loss(config(), codec, encoded, truth)
        both = loss(config(consistency=0.1, proportions=1.2), codec, encoded, truth)
        # Total 30 against 20: 9.5; GDM 18 against 15: 2.5. The proportions agree.
        assert float(both - plain) == pytest.approx(0.1 * 12.0, rel=1e-3)
    assert float(consistency(grams)) == pytest.approx(12.0)


def test_distillation_is_the_same_loss_against_the_teacher() -> None:
    codec, encoded = codec_of("four", "log1p"), torch.randn(6, 1, 4)
    grams, taught = torch.rand(6, 5) * 50, torch.rand(6, 5) * 50
    settings = config(kind="huber", weights="total")
    alone = [float(loss(settings, codec, encoded, truth_of(target))) for target in (grams, taught)]
    both = loss(settings.model_copy(update={"distillation": 0.5}), codec, encoded, truth_of(grams, taught=taught))
    assert float(both) == pytest.approx(alone[0] + 0.5 * alone[1], rel=1e-5)


@pytest.mark.parametrize("kind", ["five", "primary", "ratios"])
def test_late_fusion_is_the_mean_over_groups(kind: str) -> None:
    codec = codec_of(kind, "log1p")
    settings = config(kind="huber", consistency=0.1, proportions=1.2, distillation=0.5)
    encoded = codec.expand(torch.randn(10, codec.outputs)).view(5, 2, -1)
    truth = Truth(torch.rand(5, 5) * 40 + 1, torch.rand(5) + 0.5, torch.rand(5, 5) * 40 + 1)
    groups = [float(loss(settings, codec, encoded[:, [i]], truth)) for i in range(2)]
    assert float(loss(settings, codec, encoded, truth)) == pytest.approx(np.mean(groups), rel=1e-5)


def test_auxiliary_by_hand_and_what_was_not_measured() -> None:
    nan = float("nan")
    measured = torch.tensor([[1.0, nan], [0.0, 2.0]])
    predicted = torch.tensor([[3.0, 100.0], [1.0, 2.0]], requires_grad=True)
    value = auxiliary(predicted, measured)
    assert float(value) == pytest.approx((4.0 + 1.0 + 0.0) / 3)
    value.backward()  # type: ignore[no-untyped-call]
    assert predicted.grad is not None
    assert predicted.grad[0, 1] == 0
    nothing = auxiliary(predicted, torch.full((2, 2), nan))
    assert float(nothing) == 0
    assert nothing.requires_grad


def test_rows_and_mixing_take_every_part_along() -> None:
    parts = torch.rand(4, 5), torch.rand(4), torch.rand(4, 5), torch.rand(4, 2), torch.rand(4, 5, 3)
    truth = Truth(*parts, states=torch.rand(4, 2), species=torch.rand(4, 6))
    order, share = torch.tensor([2, 0, 3, 1]), 0.7
    for part, row, mixed in zip(truth, truth.rows(order), truth.mixed(order, share), strict=True):
        assert part is not None
        assert torch.equal(row, part[order])
        torch.testing.assert_close(mixed, 0.7 * part + 0.3 * part[order])
    bare = truth_of(torch.rand(4, 5)).mixed(order, share)
    assert bare.taught is None
    assert bare.metadata is None
    assert bare.intervals is None


@given(share=st.floats(0.5, 1))
def test_mixed_features_through_a_linear_head_meet_mixed_grams(share: float) -> None:
    # With a linear head and raw grams, mixing features with a share is mixing predictions with that share.
    linear = {"view": {"kind": "whole"}, "head": {"hidden": [], "norm": False}, "target": {"transform": "none"}}
    recipe = Recipe.parse(linear)
    net = BiomassNet(recipe, 6).eval()
    views, order = torch.randn(4, 1, 6), torch.tensor([1, 0, 3, 2])
    truth = truth_of(net.grams(Batch(views)).detach())
    fused = net.embed(Batch(views))
    mixed = net.outputs(share * fused + (1 - share) * fused[order]).encoded
    assert float(loss(config(), net.codec, mixed, truth.mixed(order, share))) < 1e-8
