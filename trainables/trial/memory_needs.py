"""The GPU memory that a recipe needs, calculated without a GPU and without its weights.

A step of the training is run on tensors without content (PyTorch's FakeTensorMode) while the bytes of all live tensors
are counted: weights, gradients, the optimiser's moments, an EMA, the half-precision copies that autocast keeps, and
activations. At every moment of the step they are linear in the number of photographs. So the peak is the largest of
several lines: that of large batches is taken through the peaks of 16 and 32 photographs, and one photograph is run too,
because with few of them the peak may lie elsewhere, where all gradients are there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.images.views import view_count
from trainables.network.backbone import Backbone, create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.network.tuning import add_lora, set_tuning, train_mode
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Stage

USABLE: Final = 0.9
"""Share of a GPU's memory that tensors can fill; the rest is CUDA's context, work space and gaps between tensors."""

_MOMENTS: Final = {"adamw": 2, "adam": 2, "sgd": 1}
"""Tensors that an optimiser keeps for each trained parameter."""

_BATCHES: Final = (16, 32)
_FLOAT: Final = 4
_BANK_WIDTH: Final = 1024
"""Assumed length of imported embeddings: a recipe does not say it."""


class Needs(NamedTuple):
    """Bytes of GPU memory of one process.

    Attributes:
        least: of one photograph.
        fixed: whatever the batch, for many photographs.
        photograph: for each photograph in memory at a time.
        trained: number of parameters that are trained.
        parameters: number of all parameters.
    """

    least: int
    fixed: int
    photograph: int
    trained: int
    parameters: int

    def bytes(self, batch: int) -> int:
        """Peak in bytes with a number of photographs in memory at a time."""
        return max(self.least, self.fixed + batch * self.photograph)

    def largest_batch(self, memory: float) -> int:
        """Largest number of photographs that fit into a GPU with this memory in bytes; 0 if not even one does."""
        usable = USABLE * memory
        return int((usable - self.fixed) // max(1, self.photograph)) if self.bytes(1) <= usable else 0


def training_needs(recipe: Recipe) -> Needs | None:
    """What training needs, in its most demanding stage, from the features of a frozen backbone or from pictures; None
    for a head that is not a network, which is fitted on the CPU.

    Raises:
        InputError: a backbone that timm does not know, or that cannot take the recipe's size.
    """
    if not recipe.neural:
        return None
    return max((_stage_needs(recipe, stage) for stage in recipe.stages), key=_of_one)


def extraction_needs(recipe: Recipe) -> Needs | None:
    """What computing the features of frozen backbones needs; None where no network is frozen throughout.

    Raises:
        InputError: as `training_needs`.
    """
    parts = [part for part in (recipe, recipe.semantic) if part and part.banked and not part.backbone.bank]
    return max((_forward_needs(part) for part in parts), key=_of_one, default=None)


def _stage_needs(recipe: Recipe, stage: Stage) -> Needs:
    semantic = 0 if recipe.semantic is None else _backbone(recipe.semantic).features
    backbone = None if recipe.backbone.bank else _backbone(recipe)
    width = _BANK_WIDTH if backbone is None else backbone.features
    with torch.device("meta"):
        net = BiomassNet(recipe, width, None if recipe.banked else backbone, semantic).train()
    if net.backbone is not None:
        set_tuning(net.backbone, recipe.backbone, stage.tuning)
        train_mode(net.backbone)
    views, size = view_count(recipe.view), recipe.view.size
    kept = _feature_shape(backbone, size) if recipe.dense and recipe.banked and backbone is not None else (width,)

    def step(batch: int) -> None:
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        moments = [torch.empty_like(each) for each in trained for _ in range(_MOMENTS[recipe.optimizer.kind])]
        if recipe.optimizer.grad_accum_steps > 1:
            for each in trained:
                each.grad = torch.zeros_like(each)  # of the batch before
        pictures = torch.zeros(batch, views, size, size, 3, dtype=torch.uint8)
        inputs = torch.zeros(batch, views, *kept) if net.backbone is None else pictures
        with _precision(recipe):
            encoded = net(Batch(inputs, torch.zeros(batch, semantic) if semantic else None))
        encoded.float().square().mean().backward()
        net.zero_grad(set_to_none=True)
        del moments

    needs = _measure(net, step)
    total = sum(p.numel() for p in net.parameters())
    ema = _FLOAT * total if recipe.optimizer.ema else 0
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    return Needs(needs.least + ema, needs.fixed + ema, needs.photograph, trained, total)


def _feature_shape(backbone: Backbone, size: int) -> tuple[int, ...]:
    """Shape of what a frozen backbone makes of a picture: with a density head, cells and their length."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        features: Tensor = backbone.to_empty(device="cpu")(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    return tuple(features.shape[1:])


def _forward_needs(part: Recipe) -> Needs:
    backbone = _backbone(part).eval()
    views, size = view_count(part.view), part.view.size

    @torch.no_grad()
    def run(batch: int) -> None:
        with _precision(part):
            backbone(torch.zeros(batch * views, size, size, 3, dtype=torch.uint8)).float()

    return _measure(backbone, run)._replace(parameters=sum(p.numel() for p in backbone.parameters()))


def _backbone(part: Recipe) -> Backbone:
    """The backbone, with adapters where the recipe trains them; its tensors have no content."""
    config = part.backbone.model_copy(update={"weights": "none"})
    with torch.device("meta"):
        backbone = create_backbone(config, part.view.size)
        if part.adapted:
            add_lora(backbone, config)
    return backbone


def _measure(module: nn.Module, run: Callable[[int], None]) -> Needs:
    """What is needed while `run(batch)` runs; the module's tensors lose their content."""
    peaks = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        module.to_empty(device="cpu")
        for batch in (1, *_BATCHES):
            with LiveBytes([*module.parameters(), *module.buffers()]) as live:
                run(batch)
            peaks.append(live.peak)
    least, few, many = peaks
    photograph = (many - few) // (_BATCHES[1] - _BATCHES[0])
    return Needs(least, few - _BATCHES[0] * photograph, photograph, 0, 0)


def _precision(recipe: Recipe) -> AbstractContextManager[object]:
    """Mixed precision as on a GPU that knows bfloat16."""
    return nullcontext() if recipe.optimizer.precision == "float32" else torch.autocast("cpu", torch.bfloat16)


def _of_one(needs: Needs) -> int:
    return needs.bytes(1)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are alive, views once.

    Args:
        tensors: that are alive already.

    Attributes:
        peak: the most bytes at any time.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0
        self._add(tensors)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it makes."""
        out = function(*args, **(kwargs or {}))
        self._add(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out

    def _add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.alive:
                self.alive[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.alive.pop(key, 0)
