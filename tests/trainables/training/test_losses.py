"""Losses against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainables.network.target_codec import TargetCodec
from trainables.recipe.sections import Loss, Target
from trainables.training.losses import Truth, consistency, loss, regression

ONE = torch.ones(1)
BALANCED = torch.tensor([[3.0, 2.0, 1.0, 4.0, 6.0], [0.0, 7.0, 0.0, 0.0, 7.0]])


def _config(**fields: Any) -> Loss:
    return Loss.model_validate(fields)


@pytest.mark.parametrize(
    ("kind", "beta", "error", "expected"),
    [
        ("smooth_l1", 1.0, 0.5, 0.125),
        ("smooth_l1", 1.0, 2.0, 1.5),
        ("smooth_l1", 2.0, 1.0, 0.25),
        ("smooth_l1", 2.0, 3.0, 2.0),
        ("huber", 1.0, 0.5, 0.125),
        ("huber", 2.0, 1.0, 0.5),
        ("huber", 2.0, 3.0, 4.0),
        ("mse", 1.0, 3.0, 9.0),
        ("mse", 5.0, 0.5, 0.25),
    ],
)
def test_regression_by_hand(kind: str, beta: float, error: float, expected: float) -> None:
    for sign in (1, -1):
        predicted = torch.tensor([[10.0, 10 + sign * error]])
        values = regression(_config(kind=kind, beta=beta), predicted, torch.tensor([[10.0, 10.0]]))
        torch.testing.assert_close(values, torch.tensor([[0.0, expected]]))


@pytest.mark.parametrize(("weights", "expected"), [("competition", 10.5), ("equal", 9.0)])
def test_target_weights(weights: str, expected: float) -> None:
    # Squared errors 25, 1, 4, 0, 15 with weights .1, .1, .1, .2, .5, and all with .2.
    errors = torch.tensor([[5.0, 1.0, 2.0, 0.0, 15**0.5]])
    codec = TargetCodec(Target(transform="none"))
    value = loss(
        _config(kind="mse", weights=weights), codec, (BALANCED[:1] + errors)[:, None], Truth(BALANCED[:1], ONE)
    )
    assert value.item() == pytest.approx(expected)


def test_target_weights_of_primary_are_normalised() -> None:
    # Squared errors of Total, GDM and Green, 4, 9 and 1, with .5, .2 and .1 over their sum .8.
    codec = TargetCodec(Target(kind="primary", transform="none"))
    predicted = torch.tensor([[8.0, 7.0, 4.0]])
    value = loss(_config(kind="mse"), codec, predicted[:, None], Truth(BALANCED[:1], ONE))
    assert value.item() == pytest.approx((0.5 * 4 + 0.2 * 9 + 0.1 * 1) / 0.8)
    equal = loss(_config(kind="mse", weights="equal"), codec, predicted[:, None], Truth(BALANCED[:1], ONE))
    assert equal.item() == pytest.approx(14 / 3)


def test_image_weights_and_the_mean_over_images() -> None:
    codec = TargetCodec(Target(transform="none"))
    predicted = BALANCED + torch.tensor([[1.0], [3.0]])
    value = loss(_config(kind="mse"), codec, predicted[:, None], Truth(BALANCED, torch.tensor([0.5, 1.5])))
    assert value.item() == pytest.approx((0.5 * 1 + 1.5 * 9) / 2)


def test_the_loss_is_on_encoded_targets() -> None:
    codec = TargetCodec(Target(transform="log1p"))
    value = loss(_config(kind="mse"), codec, (torch.log1p(BALANCED) + 0.5)[:, None], Truth(BALANCED, torch.ones(2)))
    assert value.item() == pytest.approx(0.25)


def test_consistency_by_hand() -> None:
    # Total 10 against 3 + 2 + 1 = 6: 4 - .5; GDM 4.5 against 3 + 1 = 4: .5 * .5^2.
    grams = torch.tensor([[3.0, 2.0, 1.0, 4.5, 10.0]])
    assert consistency(grams).item() == pytest.approx(3.5 + 0.125)
    assert consistency(torch.cat([grams, BALANCED[:1]])).item() == pytest.approx((3.5 + 0.125) / 2)


def test_consistency_of_balanced_predictions_is_zero() -> None:
    assert consistency(BALANCED).item() == 0


@pytest.mark.parametrize("transform", ["none", "log1p", "log1p_z"])
def test_consistency_is_added_in_grams(transform: str) -> None:
    codec = TargetCodec(Target.model_validate({"transform": transform}))
    codec.fit(BALANCED * 1.7)
    unbalanced = torch.tensor([[3.0, 2.0, 1.0, 4.5, 10.0]])
    predicted = codec.encode(unbalanced)
    plain, more = (
        loss(_config(consistency=c), codec, predicted[:, None], Truth(BALANCED[:1], ONE)) for c in (0.0, 0.3)
    )
    assert (more - plain).item() == pytest.approx(0.3 * 3.625, rel=1e-4)


def test_primary_has_no_consistency_to_pay() -> None:
    codec = TargetCodec(Target(kind="primary"))
    predicted = torch.tensor([[1.0, 3.0, 0.2]])
    plain, more = (
        loss(_config(consistency=c), codec, predicted[:, None], Truth(BALANCED[:1], ONE)) for c in (0.0, 100.0)
    )
    assert plain.item() == more.item()


@pytest.mark.parametrize("kind", ["smooth_l1", "huber", "mse"])
@pytest.mark.parametrize("target", ["five", "primary"])
def test_gradients_reach_every_prediction(kind: str, target: str) -> None:
    codec = TargetCodec(Target.model_validate({"kind": target}))
    predicted = torch.zeros(2, codec.outputs, requires_grad=True)
    loss(_config(kind=kind, consistency=0.1), codec, predicted[:, None], Truth(BALANCED + 1, torch.ones(2))).backward()
    assert predicted.grad is not None
    assert (predicted.grad < 0).all()


def test_consistency_pulls_a_total_that_is_too_large_down() -> None:
    grams = torch.tensor([[3.0, 2.0, 1.0, 4.0, 10.0]], requires_grad=True)
    consistency(grams).backward()
    assert grams.grad is not None
    assert grams.grad.tolist() == [[-1.0, -1.0, -1.0, 0.0, 1.0]]
