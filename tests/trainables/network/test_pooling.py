"""From tokens to one vector, by hand and against timm's own blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pasture.errors import InputError
from trainables.network.backbone import Backbone, create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.network.pooling import AttentionPool, pool_tokens, pooled_width
from trainables.recipe.backbone import Backbone as Config
from trainables.recipe.recipe import Recipe

PREFIX = torch.tensor([[[1.0, 2.0], [50.0, 60.0]]])
"""A class token and a register."""
PATCHES = torch.tensor([[[3.0, 4.0], [5.0, 8.0]]])


def backbone_of(name: str, **fields: Any) -> Backbone:
    return create_backbone(Config.model_validate({"name": name, "weights": "none", **fields}), 32).eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Three pictures of noise."""
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def pixels(backbone: Backbone, pictures: Tensor) -> Tensor:
    return (pictures.permute(0, 3, 1, 2).float() / 255 - backbone.mean) / backbone.std


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("cls", [1.0, 2.0]),
        ("mean", [4.0, 6.0]),
        ("cls_mean", [1.0, 2.0, 4.0, 6.0]),
        ("default", [4.0, 6.0]),
        ("max", [5.0, 8.0]),
        ("min", [3.0, 4.0]),
        ("gem", [(152 / 2) ** (1 / 3), (576 / 2) ** (1 / 3)]),  # 27 + 125, 64 + 512
        ("mean_max_min_gem", [4.0, 6.0, 5.0, 8.0, 3.0, 4.0, 76 ** (1 / 3), 288 ** (1 / 3)]),
        ("cls_std_max", [1.0, 2.0, 1.0, 2.0, 5.0, 8.0]),
    ],
)
def test_by_hand(pool: Any, expected: list[float]) -> None:
    assert pool_tokens(pool, PREFIX, PATCHES)[0].tolist() == pytest.approx(expected)
    assert pooled_width(pool, 2) == len(expected)


def test_the_mean_needs_no_class_token() -> None:
    assert pool_tokens("mean", None, PATCHES)[0].tolist() == [4.0, 6.0]


def test_the_generalised_mean_of_negative_cells_has_finite_gradients_in_half_precision() -> None:
    patches = torch.tensor([[[-1.0, 2.0], [-3.0, 0.0]]], dtype=torch.float16, requires_grad=True)
    pooled = pool_tokens("gem", None, patches)
    assert pooled[0].tolist() == pytest.approx([1e-6, 4 ** (1 / 3)])  # (8 + 0) / 2
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    assert patches.grad is not None
    # d gem / d x = x^2 / (t gem^2): 4 / (2 * 4^(2/3)) for the cell of 2
    assert patches.grad.flatten().tolist() == pytest.approx([0, 2 / 4 ** (2 / 3), 0, 0], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("pool", ["max_mean", "mean_mean", "gem_default", "attention", "", "mean_"])
def test_a_pool_of_unknown_repeated_or_misplaced_parts_is_refused(pool: str) -> None:
    with pytest.raises(InputError, match=r"backbone.pool.*some of cls, mean, std, max, min, gem in this order"):
        Recipe().with_overrides({"backbone.pool": pool})


def test_attention_by_hand() -> None:
    pool = AttentionPool(2).eval()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.zero_()
    tokens = torch.cat([PREFIX[:, :1], PATCHES], dim=1)
    assert pool(tokens)[0].tolist() == [1.0, 2.0, 4.0, 6.0]  # equal scores: the mean
    with torch.no_grad():
        pool.score[0].weight[0, 0] = 1.0  # type: ignore[index]
        pool.score[3].weight[0, 0] = 1.0  # type: ignore[index]
    first = torch.tensor([3.0, 5.0]).tanh().softmax(dim=0)  # one head looks at the first feature, three at nothing
    weights = (first + 3 * 0.5) / 4
    expected = weights[0] * PATCHES[0, 0] + weights[1] * PATCHES[0, 1]
    torch.testing.assert_close(pool(tokens)[0], torch.cat([PREFIX[0, 0], expected]))


def test_mean_std_of_every_stage_of_a_convolutional_network(pictures: Tensor) -> None:
    backbone = backbone_of("test_efficientnet", pool="mean_std", out_indices=(0, 2))
    with torch.inference_mode():
        features = backbone(pictures)
        x = (pictures.permute(0, 3, 1, 2).float() / 255 - backbone.mean) / backbone.std
        maps = backbone.model.forward_intermediates(x, indices=[0, 2], intermediates_only=True)  # type: ignore[operator]
    expected = [part for m in maps for part in (m.mean((2, 3)), m.flatten(2).std(2, correction=0))]
    torch.testing.assert_close(features, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-5)
    assert features.shape == (len(pictures), backbone.features)


def test_attention_weights_sum_to_1() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 7, 6)
    tokens[:, 1:, 5] = 1.0  # a feature that is 1 in every patch comes out as the sum of the weights
    pooled = AttentionPool(6)(tokens)
    assert pooled.shape == (2, 12)
    assert torch.equal(pooled[:, :6], tokens[:, 0])
    assert pooled[:, 11].tolist() == pytest.approx([1.0, 1.0], rel=0.2)  # the dropout is before the softmax
    assert AttentionPool(6).eval()(tokens)[:, 11].tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("pool", ["cls", "mean", "mean_std", "cls_mean", "mean_max_min_gem"])
@pytest.mark.parametrize("out_indices", [(5,), (2, 4), (0, 3, 5)])
def test_taps_are_the_blocks_outputs_under_the_last_norm(
    pool: Any, out_indices: tuple[int, ...], pictures: Tensor
) -> None:
    backbone = backbone_of("test_vit", out_indices=out_indices, pool=pool)
    blocks: dict[int, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, i=i: blocks.__setitem__(i, out))
        for i, block in enumerate(backbone.model.blocks)  # type: ignore[arg-type]
    ]
    with torch.inference_mode():
        features = backbone(pictures)
        normed = [backbone.model.norm(blocks[tap]) for tap in out_indices]  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    parts = {"cls": [t[:, 0] for t in normed], "mean": [t[:, 1:].mean(1) for t in normed]}
    spread = [t[:, 1:].std(1, correction=0) for t in normed]
    parts["mean_std"] = [torch.cat(pair, dim=1) for pair in zip(parts["mean"], spread, strict=True)]
    parts["cls_mean"] = [torch.cat(pair, dim=1) for pair in zip(parts["cls"], parts["mean"], strict=True)]
    extremes = (
        [t[:, 1:].amax(1), t[:, 1:].amin(1), t[:, 1:].clamp(min=1e-6).pow(3).mean(1).pow(1 / 3)] for t in normed
    )
    parts["mean_max_min_gem"] = [torch.cat([m, *more], dim=1) for m, more in zip(parts["mean"], extremes, strict=True)]
    torch.testing.assert_close(features, torch.cat(parts[pool], dim=1), rtol=1e-4, atol=1e-5)
    assert features.shape == (3, backbone.features)


def test_every_part_of_a_pool_of_a_middle_block_trains_the_backbone(pictures: Tensor) -> None:
    backbone = backbone_of("test_vit", pool="mean_max_min_gem", out_indices=(2, 4))
    first = next(iter(backbone.model.blocks[0].parameters()))  # type: ignore[index, union-attr]
    weights = torch.randn(backbone.width)  # the plain sum of what a LayerNorm gives is constant
    for part in backbone(pictures).split(backbone.width, dim=1):
        (gradient,) = torch.autograd.grad((part @ weights).sum(), first, retain_graph=True)
        assert gradient.abs().max() > 1e-3


def test_a_tap_on_the_last_block_is_the_output() -> None:
    pictures = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    with torch.inference_mode():
        last, tapped = (
            backbone_of("test_vit", pool="cls", out_indices=out_indices)(pictures) for out_indices in ((), (5,))
        )
    torch.testing.assert_close(last, tapped)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch16_dinov3"])
def test_the_class_token_is_the_first(name: str, pictures: Tensor) -> None:
    token, both, attention = (backbone_of(name, pool=pool) for pool in ("cls", "cls_mean", "cls_attention"))
    with torch.inference_mode():
        tokens = token.model.forward_features(pixels(token, pictures))  # type: ignore[operator]
        count = token.prefix_tokens  # DINOv3 puts four registers between the class token and the patches
        assert count == (5 if "dinov3" in name else 1)
        torch.testing.assert_close(token(pictures), tokens[:, 0])
        torch.testing.assert_close(both(pictures)[:, token.width :], tokens[:, count:].mean(dim=1))
        expected = torch.cat([tokens[:, :1], tokens[:, count:]], dim=1)
        torch.testing.assert_close(attention(pictures), expected)  # tokens, without the registers
    assert attention.features == 2 * attention.width


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "swin_tiny_patch4_window7_224"])
def test_the_mean_of_a_convolutional_network(name: str, pictures: Tensor) -> None:
    backbone = backbone_of(name, pool="mean")
    with torch.inference_mode():
        maps = backbone.model.forward_features(pixels(backbone, pictures))  # type: ignore[operator]
        axes = (1, 2) if name.startswith("swin") else (2, 3)
        torch.testing.assert_close(backbone(pictures), maps.mean(dim=axes), rtol=1e-4, atol=1e-5)


def test_the_attention_pool_is_trained_with_the_network(pictures: Tensor) -> None:
    recipe = Recipe.parse(
        {
            "view": {"kind": "halves", "size": 32},
            "backbone": {"name": "test_vit", "weights": "none", "pool": "cls_attention"},
        }
    )
    assert not recipe.banked  # though the backbone is frozen
    backbone = create_backbone(recipe.backbone, 32)
    net = BiomassNet(recipe, backbone.features, backbone)
    fused = net.embed(Batch(torch.stack([pictures, pictures.flip(1)], dim=1)))
    assert fused.shape == (3, 1, 128)
    fused[:, 0, 64:].sum().backward()  # type: ignore[no-untyped-call]
    assert net.pool is not None
    weights = [p.grad for name, p in net.pool.named_parameters() if name.endswith("weight")]
    assert all(grad is not None and grad.abs().max() > 0 for grad in weights)
