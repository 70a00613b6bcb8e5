"""The head layer by layer, fusion, and the network as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.backbone import create_backbone
from trainables.model import BiomassNet, mlp
from trainables.recipe import Head, Recipe

FEATURES = 10


def _net(**overrides: object) -> BiomassNet:
    return BiomassNet(Recipe().with_overrides(overrides), FEATURES, None).eval()


def test_the_layers_of_a_head() -> None:
    layers = list(mlp(Head(hidden=(8, 6, 4), dropout=0.4), FEATURES, 5))
    kinds = [nn.LayerNorm, *[nn.Dropout, nn.Linear, nn.GELU] * 3, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == pytest.approx([0.4, 0.2, 0.12, 0.12])
    widths = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [(10, 8), (8, 6), (6, 4), (4, 5)]


def test_a_linear_head_without_norm() -> None:
    layers = list(mlp(Head(hidden=(), norm=False, activation="relu"), FEATURES, 3))
    assert [type(layer) for layer in layers] == [nn.Dropout, nn.Linear]
    assert [type(layer) for layer in mlp(Head(hidden=(4,), norm=False, activation="relu"), 2, 3)][2] is nn.ReLU


def test_the_number_of_parameters() -> None:
    head = mlp(Head(hidden=(4, 3)), FEATURES, 5)
    by_hand = 2 * 10 + (10 * 4 + 4) + (4 * 3 + 3) + (3 * 5 + 5)
    assert sum(p.numel() for p in head.parameters()) == by_hand == 99


@pytest.mark.parametrize(
    ("fusion", "view", "width"), [("mean", "halves", 10), ("concat", "halves", 20), ("concat", "whole", 10)]
)
@pytest.mark.parametrize(("target", "outputs"), [("five", 5), ("primary", 3)])
def test_shapes(fusion: str, view: str, width: int, target: str, outputs: int) -> None:
    net = _net(**{"fusion.kind": fusion, "view.kind": view, "target.kind": target})
    features = torch.randn(7, 2 if view == "halves" else 1, FEATURES)
    assert net.head[0].normalized_shape == (width,)
    assert net(features).shape == (7, outputs)
    assert net.grams(features).shape == (7, 5)
    assert torch.equal(net.grams(features), net.codec.decode(net(features)))


def test_the_mean_forgets_left_and_right_and_concat_does_not() -> None:
    features = torch.randn(4, 2, FEATURES)
    mean, concat = _net(), _net(**{"fusion.kind": "concat"})
    torch.testing.assert_close(mean(features), mean(features.flip(1)))
    torch.testing.assert_close(mean(features), mean.head(features.mean(dim=1)))
    assert not torch.allclose(concat(features), concat(features.flip(1)))
    torch.testing.assert_close(concat(features), concat.head(torch.cat([features[:, 0], features[:, 1]], dim=1)))


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_pictures_through_the_backbone_are_features(tuned_recipe: Recipe, fusion: str) -> None:
    recipe = tuned_recipe.with_overrides({"fusion.kind": fusion})
    backbone = create_backbone(recipe.backbone, 32)
    net = BiomassNet(recipe, backbone.features, backbone).eval()
    pictures = torch.randint(0, 256, (3, 2, 32, 32, 3), dtype=torch.uint8)
    features = torch.stack([backbone(pictures[:, view]) for view in (0, 1)], dim=1)
    behind = BiomassNet(recipe, backbone.features, None).eval()
    behind.head.load_state_dict(net.head.state_dict())
    torch.testing.assert_close(net(pictures), behind(features), rtol=1e-4, atol=1e-5)


def test_an_untrained_head_starts_at_the_mean() -> None:
    net = _net()
    encoded = torch.tensor([[1.0, 2, 3, 4, 5], [3.0, 4, 5, 6, 7]])
    net.start_at(encoded)
    last = net.head[-1]
    assert isinstance(last, nn.Linear)
    assert last.bias.tolist() == [2, 3, 4, 5, 6]
    last.weight.data.zero_()
    assert net(torch.randn(2, 2, FEATURES)).tolist() == [[2, 3, 4, 5, 6]] * 2
