"""Which parameters of a backbone are trained: none, the last blocks, low-rank adapters or all."""

from __future__ import annotations

from timm.models import group_parameters

from pasture.errors import InputError
from trainables.network.backbone import Backbone
from trainables.recipe.backbone import Backbone as BackboneConfig
from trainables.recipe.sections import Tuning


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
    """Add low-rank adapters to the qkv matrices; they change nothing until they are trained.

    Raises:
        InputError: the model has no qkv matrices.
    """
    from peft import LoraConfig, inject_adapter_in_model  # slow to import, so only when adapters are used

    lora = config.lora
    adapters = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=["qkv"])
    try:
        inject_adapter_in_model(adapters, backbone.model)
    except ValueError:
        raise InputError(f"backbone.tuning=lora: {config.name} has no qkv matrices; use last_blocks or full") from None


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
