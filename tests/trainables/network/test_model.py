"""The network as a whole: fusion, head, and pictures through the backbone."""

from __future__ import annotations

import pytest
import torch

from trainables.network.backbone import create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe

FEATURES = 10


def _net(**overrides: object) -> BiomassNet:
    return BiomassNet(Recipe().with_overrides(overrides), FEATURES, None).eval()


@pytest.mark.parametrize(
    ("fusion", "view", "width"), [("mean", "halves", 10), ("concat", "halves", 20), ("concat", "whole", 10)]
)
@pytest.mark.parametrize(("target", "outputs"), [("five", 5), ("primary", 3)])
def test_shapes(fusion: str, view: str, width: int, target: str, outputs: int) -> None:
    net = _net(**{"fusion.kind": fusion, "view.kind": view, "target.kind": target})
    batch = Batch(torch.randn(7, 2 if view == "halves" else 1, FEATURES))
    assert net.fuse.width == width
    assert net(batch).shape == (7, 1, outputs)
    assert net.grams(batch).shape == (7, 5)
    assert torch.equal(net.grams(batch), net.codec.decode(net(batch)[:, 0]))


def test_the_mean_forgets_left_and_right_and_concat_does_not() -> None:
    left, right = torch.randn(2, 4, 1, FEATURES)
    there, back = Batch(torch.cat([left, right], dim=1)), Batch(torch.cat([right, left], dim=1))
    mean, concat = _net(), _net(**{"fusion.kind": "concat"})
    torch.testing.assert_close(mean(there), mean(back))
    torch.testing.assert_close(mean(there)[:, 0], mean.head((left[:, 0] + right[:, 0]) / 2))
    assert not torch.allclose(concat(there), concat(back))
    torch.testing.assert_close(concat(there)[:, 0], concat.head(torch.cat([left[:, 0], right[:, 0]], dim=1)))


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_pictures_through_the_backbone_are_features(tuned_recipe: Recipe, fusion: str) -> None:
    recipe = tuned_recipe.with_overrides({"fusion.kind": fusion})
    backbone = create_backbone(recipe.backbone, 32)
    net = BiomassNet(recipe, backbone.features, backbone).eval()
    pictures = torch.randint(0, 256, (3, 2, 32, 32, 3), dtype=torch.uint8)
    features = torch.stack([backbone(pictures[:, view]) for view in (0, 1)], dim=1)
    behind = BiomassNet(recipe, backbone.features, None).eval()
    behind.head.load_state_dict(net.head.state_dict())
    torch.testing.assert_close(net(Batch(pictures)), behind(Batch(features)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["mean", "attention"])
def test_fusion_and_head_run_in_float32_under_autocast(fusion: str) -> None:
    net = _net(**{"fusion.kind": fusion})
    batch = Batch(torch.randn(2000, 2, FEATURES))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        totals = net.grams(batch)[:, -1]
    assert totals.dtype == torch.float32
    assert len(totals.unique()) > 1900  # bfloat16 leaves some twenty values
    torch.testing.assert_close(totals, net.grams(batch)[:, -1], rtol=0, atol=0)
