"""The backbone's section of a recipe: the network, its weights, what of it is trained and how it is pooled."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trainables.recipe.sections import Section, Tuning

BANK: Final = "bank:"
"""Prefix of `backbone.name` for imported embeddings."""
POOL_PARTS: Final = ("cls", "mean", "std", "max", "min", "gem")
"""Fixed pools; `backbone.pool` names some of them, in this order, joined by "_"."""
WHOLE_POOLS: Final = ("default", "cls_attention", "grid")
"""Pools that do not consist of parts."""


def _check_pool(pool: str) -> str:
    parts = pool.split("_")
    if pool not in WHOLE_POOLS and parts != [part for part in POOL_PARTS if part in parts]:
        raise ValueError(
            f"expected {', '.join(WHOLE_POOLS)} or some of {', '.join(POOL_PARTS)} in this order, joined by '_'; "
            f"got {pool!r}"
        )
    return pool


Pool = Annotated[str, AfterValidator(_check_pool)]


LoraTarget = Literal["qkv", "proj", "mlp"]


class Lora(Section):
    """Low-rank adapters on matrices of a transformer's blocks (Hu et al., ICLR 2022), used with `backbone.tuning`
    lora."""

    rank: int = Field(8, ge=1, le=256)
    """Rank of the update of a matrix."""
    alpha: float = Field(16.0, gt=0, le=1024)
    """The update is scaled by alpha over rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before the adapters."""
    target_modules: tuple[LoraTarget, ...] = Field(("qkv",), min_length=1)
    """Matrices of each block that get adapters: `qkv` (queries, keys and values of the attention, one matrix or three),
    `proj` (the output of the attention), `mlp` (the linear layers of the MLP, a gated one's too)."""
    blocks: int = Field(0, ge=0, le=200)
    """Number of last blocks that get adapters; 0 for all blocks."""


class Semantic(Section):
    """A second, frozen backbone whose features of the two halves, averaged, join the fused vector."""

    name: str = ""
    """Any model name that timm knows; empty for none."""
    weights: str = "hub"
    """As `backbone.weights`."""
    size: int = Field(384, ge=32, le=1536)
    """Side of its halves, in pixels."""


class Backbone(Section):
    """The network that turns a view into a feature vector."""

    name: str = "tf_efficientnet_lite0"
    """Any model name that timm knows, or `bank:<name>` for embeddings imported by `forage features import`."""
    weights: str = "hub"
    """`hub` (timm's pretrained weights, from the local cache if possible), `none` (random), `package:<name>`
    (shipped inside an installed Python package) or a file (.safetensors, or .pth read with weights_only)."""
    tuning: Tuning = "frozen"
    """Which part is trained. A frozen backbone runs once on every picture, and its features are kept."""
    blocks: int = Field(4, ge=1, le=200)
    """With `last_blocks`: how many of the last blocks are trained."""
    out_indices: tuple[Annotated[int, Field(ge=0, le=500)], ...] = ()
    """Blocks (of a convolutional network: stages), counted from 0, whose pooled outputs are concatenated; empty for the
    model's own output."""
    pool: Pool = "default"
    """How tokens become a vector: `default` (as the model was trained); some of `cls` (the class token), `mean`, `std`
    (standard deviation), `max`, `min` and `gem` (generalised mean with exponent 3) over the patches (of a convolutional
    network: over the cells of its map), in this order and joined by "_", such as `mean_std` or `mean_max_min_gem`; or
    `cls_attention`, the class token beside a trained attention over the patches, which needs empty out_indices.
    `grid` keeps the cells apart, for head.kind=density; maps of several out_indices are averaged to the coarsest."""
    standardize: bool = True
    """Standardise the features of frozen backbones: each gets mean 0 and standard deviation 1 over the views and D4
    elements of the training rows. No effect on a backbone that is trained, nor with heads that are not networks: these
    standardise by themselves."""
    lora: Lora = Lora()
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory for about a third more time."""
    compile: bool = False
    """Compile a trained backbone (torch.compile): slow to start, faster after; worth it for many epochs on a GPU."""
    semantic: Semantic = Semantic()

    @property
    def bank(self) -> str:
        """Name of the imported bank that replaces the network; empty for a network."""
        return self.name.removeprefix(BANK) if self.name.startswith(BANK) else ""

    @model_validator(mode="after")
    def _embeddings_are_fixed(self) -> Self:
        if self.bank and (self.tuning != "frozen" or self.out_indices or self.pool != "default"):
            raise ValueError(
                "backbone.name=bank:... needs backbone.tuning=frozen, no out_indices and backbone.pool=default"
            )
        return self

    @model_validator(mode="after")
    def _attention_without_taps(self) -> Self:
        if self.out_indices and self.pool == "cls_attention":
            raise ValueError(
                "backbone.pool=cls_attention looks at the last block; it cannot be combined with backbone.out_indices"
            )
        return self
