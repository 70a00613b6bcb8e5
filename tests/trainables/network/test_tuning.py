"""What of a backbone is trained, and that the rest stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from pasture.errors import InputError
from trainables.network.backbone import Backbone as BackboneModule
from trainables.network.backbone import create_backbone
from trainables.network.tuning import add_lora, merge_lora, set_tuning, train_mode
from trainables.recipe.backbone import Backbone
from trainables.recipe.recipe import Recipe

TINY = "test_efficientnet"
TINY_BLOCKS = 5
VIT = Backbone(name="test_vit", weights="none", tuning="lora")


def _tiny(**fields: Any) -> Backbone:
    return Backbone.model_validate({"name": TINY, "weights": "none", **fields})


def _pictures(size: int = 32) -> Tensor:
    return torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _trained(config: Backbone) -> set[str]:
    backbone = create_backbone(config, 32)
    set_tuning(backbone, config, config.tuning)
    return {name for name, p in backbone.model.named_parameters() if p.requires_grad}


def test_frozen_and_full() -> None:
    names = {name for name, _ in create_backbone(_tiny(), 32).model.named_parameters()}
    assert _trained(_tiny(tuning="frozen")) == set()
    assert _trained(_tiny(tuning="full")) == names


@pytest.mark.parametrize("blocks", range(1, TINY_BLOCKS + 1))
def test_last_blocks_are_the_last(blocks: int) -> None:
    # What follows the last block (its convolution and norm) goes with it; the stem never does.
    names = {name for name, _ in create_backbone(_tiny(), 32).model.named_parameters()}
    first = TINY_BLOCKS - blocks
    expected = {
        n for n in names if n.startswith(("conv_head", "bn2")) or (n[:7] == "blocks." and int(n.split(".")[1]) >= first)
    }
    assert _trained(_tiny(tuning="last_blocks", blocks=blocks)) == expected


def test_last_blocks_of_lite0() -> None:
    trained = _trained(Backbone(weights="none", tuning="last_blocks", blocks=2))
    assert {n.rsplit(".", 2)[0] for n in trained} >= {"blocks.5.3", "blocks.6.0"}
    assert all(n.startswith(("blocks.5.3.", "blocks.6.0.", "conv_head.", "bn2.")) for n in trained)


@pytest.mark.parametrize("blocks", [TINY_BLOCKS + 1, 200])
def test_more_blocks_than_there_are(blocks: int) -> None:
    config = _tiny(tuning="last_blocks", blocks=blocks)
    with pytest.raises(InputError, match=f"backbone.blocks={blocks}: {TINY} has {TINY_BLOCKS} blocks"):
        set_tuning(create_backbone(config, 32), config, config.tuning)
    set_tuning(create_backbone(config, 32), config, "full")  # the number counts nowhere else


def test_blocks_of_a_stage_go_before_those_of_the_backbone() -> None:
    config = _tiny(tuning="last_blocks", blocks=4)
    backbone = create_backbone(config, 32)
    set_tuning(backbone, config, "last_blocks", 2)
    assert {n for n, p in backbone.model.named_parameters() if p.requires_grad} == _trained(
        _tiny(tuning="last_blocks", blocks=2)
    )
    with pytest.raises(InputError, match=rf"schedule.stages: blocks=6: {TINY} has {TINY_BLOCKS} blocks"):
        set_tuning(backbone, config, "last_blocks", 6)


@pytest.mark.parametrize("tuning", ["frozen", "last_blocks", "full"])
def test_frozen_batch_norms_keep_their_statistics(tuning: str) -> None:
    config = _tiny(tuning=tuning, blocks=2)
    backbone = create_backbone(config, 32)
    set_tuning(backbone, config, config.tuning)
    before = {n: b.clone() for n, b in backbone.named_buffers()}
    train_mode(backbone)
    backbone(_pictures())
    norms = {n: m for n, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    trained = {n: m.weight.requires_grad for n, m in norms.items()}
    assert set(trained.values()) == {"frozen": {False}, "last_blocks": {False, True}, "full": {True}}[tuning]
    for name, norm in norms.items():
        assert norm.training == trained[name]
        assert torch.equal(norm.running_mean, before[f"{name}.running_mean"]) != trained[name]  # type: ignore[arg-type]


@pytest.mark.heavy
def test_lora_trains_its_adapters_only_and_starts_at_nothing() -> None:
    plain, backbone = create_backbone(VIT, 32).eval(), create_backbone(VIT, 32).eval()
    add_lora(backbone, VIT)
    set_tuning(backbone, VIT, "lora")
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained
    assert all("qkv.lora_" in name for name in trained)
    assert torch.equal(backbone(_pictures()), plain(_pictures()))


@pytest.mark.heavy
def test_merged_adapters_predict_the_same() -> None:
    backbone = create_backbone(VIT, 32).eval()
    before = backbone(_pictures())
    add_lora(backbone, VIT)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_" in name:
                parameter += 0.05
    adapted = backbone.eval()(_pictures())
    assert not torch.allclose(adapted, before, atol=1e-3)
    merge_lora(backbone)
    torch.testing.assert_close(backbone(_pictures()), adapted, rtol=1e-4, atol=1e-4)


def test_dropout_goes_with_the_module_it_is_part_of() -> None:
    backbone = create_backbone(VIT, 32)
    add_lora(backbone, VIT)
    set_tuning(backbone, VIT, "lora")
    train_mode(backbone)
    dropouts = {n: m.training for n, m in backbone.named_modules() if isinstance(m, nn.Dropout)}
    adapters = {name for name in dropouts if "lora_dropout" in name}
    assert adapters
    assert all(dropouts[name] for name in adapters), "backbone.lora.dropout would do nothing"
    set_tuning(backbone, VIT, "frozen")
    train_mode(backbone)
    assert not any(m.training for m in backbone.modules())


def _family(name: str, **smaller: Any) -> BackboneModule:
    """A shallow, narrow model of a family, with random weights."""
    model = timm.create_model(name, num_classes=0, depth=3, embed_dim=24, num_heads=2, **smaller)
    return BackboneModule(model, Backbone(name=name))


# Numbers are those of one block of width 24: what goes into and out of each matrix.
ATTENTION = {"qkv": [(24, 72)], "proj": [(24, 24)], "mlp": [(24, 96), (96, 24)]}
GATED = ATTENTION | {"mlp": [(24, 96), (24, 96), (96, 24)]}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, list[tuple[int, int]]]]] = {
    "vit_small_patch16_224": ({"img_size": 32}, ATTENTION),
    "vit_small_patch14_reg4_dinov2": ({"img_size": 28}, ATTENTION),
    "vit_base_patch16_siglip_224": ({"img_size": 32}, ATTENTION),  # its attention pool gets no adapters
    "vit_small_patch16_dinov3": ({"img_size": 32}, ATTENTION),
    "vit_huge_plus_patch16_dinov3": ({"img_size": 32, "mlp_ratio": 4}, GATED),
    "eva02_base_patch14_224": ({"img_size": 28, "mlp_ratio": 4}, GATED | {"qkv": [(24, 24)] * 3}),
}


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("targets", [("qkv",), ("proj",), ("mlp",), ("qkv", "proj", "mlp")], ids="+".join)
@pytest.mark.parametrize("name", FAMILIES)
def test_lora_on_chosen_matrices_of_the_last_blocks(name: str, targets: tuple[str, ...], blocks: int) -> None:
    smaller, matrices = FAMILIES[name]
    backbone = _family(name, **smaller)
    lora = {"rank": 2, "dropout": 0.0, "target_modules": targets, "blocks": blocks}
    config = Backbone.model_validate({"name": name, "tuning": "lora", "lora": lora})
    add_lora(backbone, config)
    set_tuning(backbone, config, "lora")
    train_mode(backbone)
    trained = {n: p for n, p in backbone.model.named_parameters() if p.requires_grad}
    assert {int(n.split(".")[1]) for n in trained if n.startswith("blocks.")} == set(range(3)[-blocks:])
    sizes = [rank_two for target in targets for inside, out in matrices[target] for rank_two in (2 * inside, out * 2)]
    assert sorted(p.numel() for p in trained.values()) == sorted(sizes * (blocks or 3))
    side = smaller["img_size"]
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.01  # an adapter starts with a matrix of zeros, which keeps gradients from the other one
    backbone(_pictures(side)).pow(2).sum().backward()
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.any()] == []


def test_lora_on_the_mlps_of_a_convolutional_network() -> None:
    config = Backbone.model_validate(
        {"name": "test_convnext", "weights": "none", "lora": {"target_modules": ["mlp"], "blocks": 1}}
    )
    backbone = create_backbone(config, 32)
    add_lora(backbone, config)
    set_tuning(backbone, config, "lora")
    trained = {n.split(".lora_")[0] for n, p in backbone.model.named_parameters() if p.requires_grad}
    assert trained == {"stages.3.blocks.1.mlp.fc1", "stages.3.blocks.1.mlp.fc2"}


@pytest.mark.parametrize(
    ("name", "lora", "message"),
    [
        (TINY, {}, f"backbone.tuning=lora: {TINY} has no qkv matrices; use last_blocks or full"),
        ("test_convnext", {}, r"test_convnext has no qkv matrices; set backbone.lora.target_modules=\[mlp\]"),
        ("test_convnext", {"target_modules": ["mlp", "proj"]}, "test_convnext has no proj matrices; set"),
        ("test_vit", {"blocks": 7}, "backbone.lora.blocks=7: test_vit has 6 blocks; give fewer"),
        ("beit_base_patch16_224", {}, "target_modules=qkv: beit_base_patch16_224 reads the qkv matrix without"),
    ],
)
def test_lora_where_it_makes_no_sense(name: str, lora: dict[str, Any], message: str) -> None:
    config = Backbone.model_validate({"name": name, "weights": "none", "tuning": "lora", "lora": lora})
    backbone = _family(name, img_size=32) if name.startswith("beit") else create_backbone(config, 32)
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        add_lora(backbone, config)


@pytest.mark.parametrize("lora", [{"target_modules": []}, {"target_modules": ["fc1"]}, {"blocks": -1}])
def test_bounds_of_lora(lora: dict[str, Any]) -> None:
    field = "backbone.lora." + next(iter(lora))
    with pytest.raises(InputError, match=rf"^recipe: {field}[^\n]*$"):
        Recipe.parse({"backbone": {"lora": lora}})
