"""Every published system: its file, and its network against numbers worked out by hand."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import timm
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from search_spaces.catalogue import describe_recipe, load_recipe, recipe_names
from tests.search_spaces.small_presets import small
from trainables.fitted.learner import FittedNet
from trainables.images.views import view_count
from trainables.network.backbone import create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.network.pooling import AttentionPool
from trainables.recipe.recipe import Recipe
from trainables.training.nets import Widths


class Expected(NamedTuple):
    """What a preset's network is, worked out by hand from RECIPES.md and the width of its real backbone.

    Attributes:
        width: of a token, or of the backbone's own pooled features.
        view: length of a view's vector, after out_indices and pool.
        head: parameters of the head.
        shape: (vectors, encoded targets) of a picture.
        fusion: parameters of the fusion.
        semantic: length of the second backbone's vector.
    """

    width: int
    view: int
    head: int
    shape: tuple[int, int]
    fusion: int = 0
    semantic: int = 0


# frozen_mlp: mean and spread of 112 and 320 channels are 864; 864*256+256 = 221,440, 256*5+5 = 1,285.
# An MLP head is LayerNorm 2F, F*512+512, 512*256+256 = 131,328, 256*5+5 = 1,285.
# A head for one target is I*h+h and h+1 with h = I/4; there are three.
# FiLM is 768*384+384 = 295,296 and 384*1536+1536 = 591,360; there are two.
NETWORKS = {
    "dinov2_mlp": Expected(768, 768, 1_536 + 393_728 + 131_328 + 1_285, (1, 5)),
    "dinov2_large_mlp": Expected(1024, 1024, 2_048 + 524_800 + 131_328 + 1_285, (1, 5)),
    "convnext_mlp": Expected(1536, 1536, 3_072 + 786_944 + 131_328 + 1_285, (1, 5)),
    "swin_mlp": Expected(1536, 1536, 3_072 + 786_944 + 131_328 + 1_285, (1, 5)),
    "efficientnet_mlp": Expected(1792, 1792, 3_584 + 918_016 + 131_328 + 1_285, (1, 5)),
    "frozen_mlp": Expected(1280, 864, 221_440 + 1_285, (1, 5)),
    # A cell is 112 + 320: 432*64+64 and 64*3+3
    "frozen_density": Expected(1280, 432, 27_712 + 195, (1, 5)),
    # LayerNorm 768, 384*256+256, 256*128+128, 128*5+5
    "dinov2_small_unfrozen": Expected(384, 384, 768 + 98_560 + 32_896 + 645, (1, 5)),
    "lightning_halves": Expected(1280, 1280, 6_405, (2, 5)),
    "lightning_halves_scalar": Expected(1280, 1280, 1_281, (2, 5)),
    # I = 2*768 = 1536, h = 384: 590,208 + 385
    "two_stream": Expected(768, 768, 3 * 590_593, (1, 3)),
    "two_stream_dinov2": Expected(768, 768, 3 * 590_593, (1, 3)),
    "tiled_film": Expected(768, 768, 3 * 590_593, (1, 3), fusion=2 * (295_296 + 591_360)),
    # A tile is two blocks x (CLS, mean) x 1024 = 4096; I = 8192, h = 2048: 16,779,264 + 2,049
    "multi_tile": Expected(1024, 4096, 3 * 16_781_313, (1, 3)),
    "multi_tile_two_stage": Expected(1024, 4096, 3 * 16_781_313, (1, 3)),
    # I = 8192 + 1152 = 9344, h = 2336: 21,829,920 + 2,337
    "multi_tile_siglip": Expected(1024, 4096, 3 * 21_832_257, (1, 3), semantic=1152),
    # View (CLS, attention) = 1536. LayerNorm 3,072, 1536*512+512, 512*128+128, 128*4+4; crops 1536*128+128, 128+1
    "crop_attention_distilled": Expected(768, 1536, 3_072 + 786_944 + 65_664 + 516, (1, 4), fusion=196_736 + 129),
    # LayerNorm 1,536, 768*512+512, 512*4+4 (Total and three proportions)
    # Three blocks x (CLS, mean) x 1024 = 6144: 6144*256+256 = 1,573,120; x 1280 = 7680: 1,966,336.
    "dinov3_frozen": Expected(1024, 6144, 1_573_120 + 1_285, (1, 5)),
    "dinov3_huge_plus_frozen": Expected(1280, 7680, 1_966_336 + 1_285, (1, 5)),
    # Three blocks x mean x 1152 = 3456: 884,992
    "siglip2_frozen": Expected(1152, 3456, 884_992 + 1_285, (1, 5)),
    "dinov3_lora": Expected(768, 768, 1_536 + 393_728 + 2_052, (1, 5)),
}
FITTED = {"feature_ridge": 1280, "semantic_boosting": 1152, "semantic_boosting_catboost": 1152}
"""Not neural: the length of the vector they are fitted to."""


@pytest.mark.parametrize("name", recipe_names())
def test_the_file(name: str) -> None:
    recipe = load_recipe(name)
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.hash == recipe.hash
    assert [n for n in recipe_names() if load_recipe(n).hash == recipe.hash] == [name]
    assert 20 < len(describe_recipe(name)) < 120
    assert timm.is_model(recipe.backbone.name)


def test_every_preset_is_worked_out_here() -> None:
    assert {*NETWORKS, *FITTED} == set(recipe_names())


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_shapes_by_hand(name: str) -> None:
    recipe, expected = load_recipe(name), NETWORKS[name]
    with FakeTensorMode():  # shapes without memory
        net = BiomassNet(recipe, expected.view, semantic=expected.semantic)
        cells = (4,) if recipe.dense else ()
        views = torch.zeros(3, view_count(recipe.view), *cells, expected.view)
        semantic = torch.zeros(3, expected.semantic) if expected.semantic else None
        assert sum(p.numel() for p in net.head.parameters()) == expected.head
        assert sum(p.numel() for p in net.fuse.parameters()) == expected.fusion
        net.eval()
        assert net(Batch(views, semantic)).shape == (3, *expected.shape)
        assert net.grams(Batch(views, semantic)).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "inputs", "layers"),
    [
        ("dinov2_mlp", 768, ["norm", 0.3, 512, "GELU", 0.15, 256, "GELU", 0.09, 5]),
        ("two_stream", 1536, [0.0, 384, "ReLU", 0.3, 1]),
        ("tiled_film", 1536, [0.0, 384, "ReLU", 0.3, 1]),
        ("lightning_halves", 1280, [0.0, 5]),
        # The last dropout is ours: it falls from layer to layer, where the published heads have none.
        ("dinov2_small_unfrozen", 384, ["norm", 0.0, 256, "GELU", 0.4, 128, "GELU", 0.2, 5]),
        ("crop_attention_distilled", 1536, ["norm", 0.0, 512, "GELU", 0.2, 128, "GELU", 0.1, 4]),
    ],
)
def test_the_layers_of_the_published_heads(name: str, inputs: int, layers: list[object]) -> None:
    recipe = load_recipe(name)
    head = BiomassNet(recipe, NETWORKS[name].view).head
    assert len(head.networks) == (3 if recipe.target.kind == "primary" else 1)
    assert head.softplus == (recipe.target.kind == "primary")
    for network in head.networks:
        assert next(layer.in_features for layer in network if isinstance(layer, nn.Linear)) == inputs
        found: list[object] = []
        for layer in network.children():
            if isinstance(layer, nn.Dropout):
                found.append(pytest.approx(layer.p))
            elif isinstance(layer, nn.Linear):
                found.append(layer.out_features)
            else:
                found.append("norm" if isinstance(layer, nn.LayerNorm) else type(layer).__name__)
        assert found == layers


def test_the_parts_beside_the_head_by_hand() -> None:
    # d to d/2, tanh, d/2 to 4: 768*384+384 and 384*4+4; NDVI and height from 768
    assert sum(p.numel() for p in AttentionPool(768).parameters()) == 295_296 + 1_540
    auxiliary = BiomassNet(load_recipe("dinov3_lora"), 768).auxiliary
    assert auxiliary is not None
    assert sum(p.numel() for p in auxiliary.parameters()) == 1_538


@pytest.mark.parametrize("name", FITTED)
def test_what_is_no_network_has_its_shape_too(name: str) -> None:
    recipe, width = load_recipe(name), FITTED[name]
    net = FittedNet(recipe, Widths(width))
    assert net.features(Batch(torch.zeros(3, 2, width))).shape == (3, width)
    assert not list(net.parameters())


@pytest.mark.usefixtures("small_backbones")
@pytest.mark.parametrize("name", recipe_names())
def test_the_width_of_a_view_is_the_real_one(name: str) -> None:
    recipe = small(name)
    backbone = create_backbone(recipe.backbone, recipe.view.size)
    expected = NETWORKS.get(name)
    if expected and recipe.backbone.weights != "none":  # the real backbone
        assert backbone.features == expected.view
        return
    # On the narrow backbone, in multiples of its tokens: out_indices and pool are those of the preset.
    times = expected.view // expected.width if expected else 1
    assert backbone.features == times * backbone.width
