"""Epsilon-insensitive, Gaussian and R2 losses: by hand, and what they cannot be combined with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pasture.errors import InputError
from pasture.metric import weighted_r2
from trainables.network.model import Batch, BiomassNet
from trainables.network.target_codec import TargetCodec
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Loss, Target
from trainables.training.losses import Truth, gaussian_nll, loss, regression

GRAMS = torch.tensor([[10.0, 5.0, 2.0, 12.0, 17.0], [40.0, 0.0, 0.0, 40.0, 40.0], [3.0, 9.0, 1.0, 4.0, 13.0]])


def codec(kind: str = "five", transform: str = "sqrt") -> TargetCodec:
    fitted = TargetCodec(Target.model_validate({"kind": kind, "transform": transform}))
    fitted.fit(GRAMS)
    return fitted


@pytest.mark.parametrize(
    ("config", "expected", "slope"),
    [
        (Loss(kind="mse", epsilon=0.5), [0.0, 0.0, 2.25, 0.25], [0.0, 0.0, 3.0, -1.0]),
        (Loss(kind="smooth_l1", beta=1.0, epsilon=0.5), [0.0, 0.0, 1.0, 0.125], [0.0, 0.0, 1.0, -0.5]),
    ],
)
def test_small_errors_cost_nothing(config: Loss, expected: list[float], slope: list[float]) -> None:
    predicted = torch.tensor([1.5, 0.6, 3.0, 0.0], requires_grad=True)
    errors = regression(config, predicted, torch.ones(4))
    assert errors.tolist() == pytest.approx(expected)
    errors.sum().backward()  # type: ignore[no-untyped-call]
    assert predicted.grad is not None
    assert predicted.grad.tolist() == pytest.approx(slope)


def test_gaussian_likelihood_by_hand() -> None:
    predicted, spread = (
        torch.tensor([1.0, 5.0], requires_grad=True),
        torch.tensor([0.0, math.log(4)], requires_grad=True),
    )
    errors = gaussian_nll(predicted, torch.tensor([3.0, 3.0]), spread)
    assert errors.tolist() == pytest.approx([2.0, 0.5 + math.log(4) / 2])
    normal = torch.distributions.Normal(predicted, torch.exp(spread / 2))
    nll = -normal.log_prob(torch.tensor([3.0, 3.0])) - math.log(2 * math.pi) / 2
    torch.testing.assert_close(errors, nll)
    errors.sum().backward()  # type: ignore[no-untyped-call]
    assert predicted.grad is not None
    assert spread.grad is not None
    assert predicted.grad.tolist() == pytest.approx([-2.0, 0.5])
    assert spread.grad.tolist() == pytest.approx([-1.5, 0.0])


@pytest.mark.parametrize("transform", ["none", "sqrt", "log1p_z"])
def test_the_r2_loss_is_one_minus_the_metric_on_every_scale(transform: str) -> None:
    predicted = GRAMS + torch.tensor([1.0, 2.0, 0.5, -1.0, -3.0])
    fitted = codec(transform=transform)
    encoded = fitted.encode(predicted).unsqueeze(1)
    value = loss(Loss(kind="r2"), fitted, encoded, Truth(GRAMS, torch.ones(3)))
    decoded = fitted.decode(encoded.squeeze(1))
    assert float(value) == pytest.approx(1 - weighted_r2(GRAMS.numpy(), decoded.numpy()), rel=1e-5)
    assert 0.001 < float(value) < 0.5


@pytest.mark.parametrize("transform", ["none", "sqrt", "log1p", "log1p_z"])
@pytest.mark.parametrize("kind", ["five", "primary", "four"])
def test_the_spread_in_grams_is_that_of_decoded_draws(kind: str, transform: str) -> None:
    fitted = codec(kind, transform)
    encoded = fitted.encode(GRAMS[:1])
    fitted.ceiling.fill_(100.0)  # or half of the draws of the largest photograph would be clipped
    log_variance = torch.full_like(encoded, 2 * math.log(1e-3))
    noise = torch.randn(20_000, encoded.shape[1], generator=torch.Generator().manual_seed(0)) * 1e-3
    drawn = fitted.decode(encoded + noise).std(dim=0)
    torch.testing.assert_close(fitted.spread(encoded, log_variance)[0], drawn, rtol=0.03, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"head.kind": "mlp_per_target"}, {"fusion.kind": "late"}])
def test_the_gradient_of_the_spread_reaches_the_head(changes: dict[str, Any], frozen_recipe: Recipe) -> None:
    recipe = frozen_recipe.with_overrides({"loss.kind": "gaussian_nll", "head.hidden": [8], **changes})
    net = BiomassNet(recipe, 12)
    net.codec.fit(GRAMS)
    net.start_at(GRAMS)
    batch = Batch(torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(0)))
    start = net.outputs(net.embed(batch))
    assert start.log_variance is not None
    expected = net.codec.encode(GRAMS).numpy().var(axis=0)
    np.testing.assert_allclose(start.log_variance.exp()[0].detach(), expected, rtol=1e-4)
    assert net.log_variance is not None
    torch.nn.init.ones_(net.log_variance.weight)
    outputs = net.outputs(net.embed(batch))
    assert outputs.log_variance is not None
    outputs.log_variance.sum().backward()
    assert all(network[-4].weight.grad.abs().sum() > 0 for network in net.head.networks)  # type: ignore[index, union-attr, operator]
    assert net.spread(batch).shape == (3, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"kind": "r2", "epsilon": 0.5}}, "loss.epsilon needs .*loss.kind=r2 needs it to be 0"),
        ({"loss": {"kind": "gaussian_nll", "mse_share": 0.5}}, "loss.mse_share needs .*loss.kind=gaussian_nll"),
        ({"loss.kind": "gaussian_nll", "head.kind": "ridge"}, "trains a network; head.kind=ridge does not use it"),
        ({"loss.kind": "gaussian_nll", "target.kind": "scalar"}, "target.kind=scalar has one number for all"),
        ({"loss.state": 0.1, "head.kind": "pls"}, "loss.state trains a network; head.kind=pls needs weight 0"),
        ({"loss.species": 0.1, "head.hidden": []}, "loss.species on a frozen backbone trains the hidden layers"),
        (
            {"validation": {"stratify": "state", "splitter": "group"}},
            "validation.stratify=state needs .*, not group",
        ),
        ({"augment.crop": 0.5, "backbone.name": "bank:mine"}, "augment.crop changes pictures; .*, set it to 1"),
        (
            {"augment.artefacts": 0.5, "backbone.name": "bank:mine"},
            "augment.artefacts changes pictures; .* set it to 0",
        ),
        ({"augment.artefacts": 1.5}, "less than or equal to 1"),
        ({"augment.shrink": 0.0}, "greater than or equal to 0.1"),
        ({"loss.epsilon": -1}, "greater than or equal to 0"),
        ({"loss.state": 101}, "less than or equal to 100"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Recipe().with_overrides(changes)
    assert "\n" not in str(caught.value)
