"""What of a backbone is trained, and that the rest stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pasture.errors import InputError
from trainables.network.backbone import create_backbone
from trainables.network.tuning import add_lora, merge_lora, set_tuning, train_mode
from trainables.recipe.backbone import Backbone

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


def test_lora_needs_attention() -> None:
    with pytest.raises(InputError, match=f"backbone.tuning=lora: {TINY} has no qkv"):
        add_lora(create_backbone(_tiny(), 32), _tiny())
