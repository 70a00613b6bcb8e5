"""Which parameters of a backbone are trained: none, the last blocks, low-rank adapters or all."""

from __future__ import annotations

import re
from typing import Final

from timm.models import group_parameters
from torch import nn

from pasture.errors import InputError
from trainables.network.backbone import Backbone
from trainables.recipe.backbone import Backbone as BackboneConfig
from trainables.recipe.backbone import LoraTarget
from trainables.recipe.sections import Tuning

_LORA_LAYERS: Final[dict[LoraTarget, str]] = {
    "qkv": r"(^|\.)(qkv|[qkv]_proj)$",
    "proj": r"attn\.proj$",
    "mlp": r"mlp\.fc\d(_[gx])?$",
}
"""What timm calls these layers in ViT (also DINOv2, SigLIP), EVA (also DINOv3), Swin and the like."""


def layers(backbone: Backbone) -> list[list[str]]:
    """Names of the parameters of each layer, from the stem to the last block, as timm groups them."""
    matcher = backbone.model.group_matcher(coarse=False)  # type: ignore[operator]
    return list(group_parameters(backbone.model, matcher).values())


def set_tuning(backbone: Backbone, config: BackboneConfig, tuning: Tuning, blocks: int | None = None) -> None:
    """Mark which parameters are trained (`requires_grad`): adapters, or the last of the layers.

    Args:
        backbone: the network.
        config: its section of the recipe.
        tuning: what is trained.
        blocks: with `last_blocks`, how many; by default those of the section.

    Raises:
        InputError: more blocks than there are.
    """
    backbone.requires_grad_(False)
    if tuning == "lora":
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return
    groups = layers(backbone)
    last = blocks or config.blocks
    if tuning == "last_blocks" and last >= len(groups):
        field = f"schedule.stages: blocks={last}" if blocks else f"backbone.blocks={last}"
        raise InputError(
            f"{field}: {config.name} has {len(groups) - 1} blocks behind its stem; give fewer, or tuning=full"
        )
    tuned = {"frozen": 0, "last_blocks": last, "full": len(groups)}[tuning]
    parameters = dict(backbone.model.named_parameters())
    for layer in groups[len(groups) - tuned :]:
        for name in layer:
            if name in parameters:
                parameters[name].requires_grad_(True)


def add_lora(backbone: Backbone, config: BackboneConfig) -> None:
    """Add low-rank adapters; they change nothing until they are trained.

    Raises:
        InputError: as `lora_layers`.
    """
    from peft import LoraConfig, inject_adapter_in_model  # slow to import, so only when adapters are used

    lora = config.lora
    targets = lora_layers(backbone, config)
    adapters = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    inject_adapter_in_model(adapters, backbone.model)


def lora_layers(backbone: Backbone, config: BackboneConfig) -> list[str]:
    """Names of the layers that get adapters: those of the target modules in the last blocks.

    Raises:
        InputError: the model lacks such layers, has fewer blocks, or does not call its qkv layers.
    """
    lora, modules = config.lora, dict(backbone.model.named_modules())
    found = {
        target: [
            name
            for name, module in modules.items()
            if isinstance(module, nn.Linear | nn.Conv2d) and re.search(pattern, name) and _block(name)
        ]
        for target, pattern in _LORA_LAYERS.items()
    }
    if missing := [target for target in lora.target_modules if not found[target]]:
        others = ", ".join(target for target, names in found.items() if names)
        advice = f"set backbone.lora.target_modules=[{others}]" if others else "use last_blocks or full"
        raise InputError(f"backbone.tuning=lora: {config.name} has no {missing[0]} matrices; {advice}")
    with_layers = {_block(name) for names in found.values() for name in names}
    blocks = [name for name in modules if name in with_layers]
    if lora.blocks > len(blocks):
        raise InputError(f"backbone.lora.blocks={lora.blocks}: {config.name} has {len(blocks)} blocks; give fewer")
    adapted = blocks[-lora.blocks :]  # with 0 all of them
    layers = [name for target in lora.target_modules for name in found[target] if _block(name) in adapted]
    if any(_bypassed(modules[name.rpartition(".")[0]], name) for name in layers):
        raise InputError(
            f"backbone.lora.target_modules=qkv: {config.name} reads the qkv matrix without calling its layer, so that "
            "an adapter has no effect; set backbone.lora.target_modules=[proj, mlp]"
        )
    return layers


def _block(layer: str) -> str:
    """The block of a layer: its name up to the last index; empty for a layer outside of blocks, such as a pool's."""
    parts = layer.split(".")
    return ".".join(parts[: max((i + 1 for i, part in enumerate(parts) if part.isdigit()), default=0)])


def _bypassed(attention: nn.Module, layer: str) -> bool:
    """Whether an attention of timm (BEiT, Swin v2) computes with `qkv.weight` and separate biases."""
    separate = getattr(attention, "qkv_bias_separate", False)
    return layer.endswith("qkv") and getattr(attention, "q_bias", None) is not None and not separate


def merge_lora(backbone: Backbone) -> None:
    """Merge trained adapters into their matrices: the same predictions at the cost of the plain model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in backbone.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()


def train_mode(backbone: Backbone) -> None:
    """Put trained modules into training mode and leave frozen ones (dropout, batch norms) in evaluation mode."""
    for module in backbone.modules():
        parameters = list(module.parameters(recurse=False)) or list(module.parameters())
        if parameters:  # a module without parameters, such as dropout, follows its parent
            module.train(any(p.requires_grad for p in parameters))
