"""Running the models of a blend on some photographs, one model at a time.

Each frozen backbone runs once per D4 element, however many models use its features. A device holds one backbone or one
model at a time, and batches shrink where its memory does not suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.prediction.photographs import LARGEST_CHUNK, Chunk
from pasture.errors import InputError, JobError
from pasture.projection import project
from pasture.targets import Array
from trainables.compute.device_errors import is_device_lost
from trainables.compute.memory import with_smaller_batches
from trainables.compute.precision import autocast
from trainables.features import embeddings
from trainables.features.feature_bank import bank_dtype, batch_size, extract
from trainables.fitted.learner import FittedNet
from trainables.images import d4
from trainables.images.image_cache import Watch
from trainables.images.views import view_count
from trainables.network.backbone import Backbone, create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Precision, View
from trainables.training.nets import Widths
from trainables.trial.trained_net import trained_net

_CHUNK_OF_CELLS: Final = 32
"""Photographs in a chunk: with 1,024 cells of 1,024 features for 2 views, 1 GB under all elements of D4."""


class _Source(NamedTuple):
    """A frozen backbone and the views that it is applied to: everything that its features depend on."""

    digest: str
    view: View
    out_indices: tuple[int, ...]
    pool: str
    precision: Precision

    @classmethod
    def of(cls, part: Recipe, digest: str) -> _Source:
        return cls(digest, part.view, part.backbone.out_indices, part.backbone.pool, part.optimizer.precision)


class Model(NamedTuple):
    """The model of one fold, and what it reads of the photographs of a chunk.

    Attributes:
        name: for messages.
        net: the network.
        recipe: of its member.
        features: (elements, n, views, ...) of its frozen backbone; None where it looks at the pictures.
        semantic: (elements, n, views, d) of its second backbone; None without one.
    """

    name: str
    net: BiomassNet | FittedNet
    recipe: Recipe
    features: Tensor | None
    semantic: Tensor | None


def network_views(blend: Blend) -> set[View]:
    """Every way in which photographs must be cut; empty where all features were made elsewhere."""
    recipes = [member.recipe for member in blend.members if member.recipe]
    parts = [*recipes, *(recipe.semantic for recipe in recipes if recipe.semantic)]
    return {part.view for part in parts if not part.backbone.bank}


def most_photographs(blend: Blend) -> int:
    """How many photographs to hold at a time: fewer where cells of frozen backbones are kept."""
    cells = any(member.recipe and member.recipe.dense and member.recipe.banked for member in blend.members)
    return _CHUNK_OF_CELLS if cells else LARGEST_CHUNK


class ChunkRun:
    """All models of a blend on one chunk of photographs.

    Args:
        blend: the models.
        ids: of all photographs of the dataset.
        chunk: the photographs to predict.
        elements: of D4, to predict them under.
        device: where the models run.
        watch: called with the progress over the whole dataset.
    """

    def __init__(
        self,
        blend: Blend,
        ids: Sequence[str],
        chunk: Chunk,
        elements: tuple[int, ...],
        device: torch.device,
        watch: Watch,
    ) -> None:
        self.blend, self.ids, self.chunk = blend, ids, chunk
        self.elements, self.device, self.watch = elements, device, watch
        self.features: dict[_Source, Tensor] = {}
        self.passes_done = 0
        self.passes = _network_passes(blend)

    def predictions(self) -> Array:
        """(models, elements, n, 5) in grams, projected onto the mass balance; models in the order of members and folds.

        Raises:
            InputError, JobError: as `predict`.
        """
        return np.concatenate([self.member(member) for member in self.blend.members if member.recipe])

    @torch.inference_mode()
    def member(self, member: BlendMember) -> Array:
        """(folds, elements, n, 5) in grams of one member with a recipe.

        Raises:
            InputError, JobError: as `predict`.
        """
        grams = []
        for model in self.models(member):
            grams.append(self._grams(model))
            del model  # before the next is built
        return np.stack(grams)

    def models(self, member: BlendMember) -> Iterator[Model]:
        """The models of a member's folds, one at a time; an external member has none."""
        recipe = member.recipe
        if recipe is None:
            return
        second = recipe.semantic
        semantic = self._frozen_features(second, member.key, member.semantic) if second else None
        features, state = None, {}
        if recipe.banked:
            features = self._frozen_features(recipe, member.key, member.backbone)
            width = features.shape[-1]
        else:
            backbone = _pretrained(self.blend, member.key, recipe, member.backbone)
            width, state = backbone.features, backbone.model.state_dict()
        sizes = Widths(width, semantic.shape[-1] if semantic is not None else 0)
        for fold in range(member.folds):
            net = trained_net(recipe, sizes, self.blend.fold_weights(member, fold), state)
            name = f"{member.key}, fold {fold}"
            yield Model(name, net, recipe, features, semantic)
            del net  # before the next is built

    def _frozen_features(self, part: Recipe, key: str, digest: str) -> Tensor:
        """(elements, n, views, d), with pool `grid` (elements, n, views, cells, d) float16, on the CPU.

        They are computed by the first member that needs them.
        """
        source = _Source.of(part, digest)
        if source not in self.features:
            bank = part.backbone.bank
            self.features[source] = self._bank_rows(bank, key, digest) if bank else self._extracted(part, key, digest)
        return self.features[source]

    def _bank_rows(self, bank: str, key: str, digest: str) -> Tensor:
        stored = embeddings.read(bank)
        if stored.digest(bank, self.blend.image_ids()) != digest:
            raise InputError(
                f"bank:{bank} has other embeddings than {key} was trained on; import the one used for training again"
            )
        rows = stored.rows(self.ids[self.chunk.rows], bank)  # (n, 8, views, d)
        return torch.from_numpy(rows[:, self.elements].swapaxes(0, 1).astype(np.float32))

    def _extracted(self, part: Recipe, key: str, digest: str) -> Tensor:
        backbone = _pretrained(self.blend, key, part, digest)
        name = f"{key}, backbone {part.backbone.name}"

        precision = part.optimizer.precision

        def run(pictures: Tensor) -> Tensor:
            features = extract(backbone, pictures.flatten(0, 1), self.device, precision)
            if bank_dtype(precision) == np.float16:
                features = features.half().float()  # as the bank keeps them, on which heads were trained
            kept = features.half() if part.dense else features  # cells take many times the memory
            return kept.view(*pictures.shape[:2], *kept.shape[1:]).cpu()

        with _device_errors(name):
            backbone.to(self.device)
            return self._over_pictures(
                part.view, self._photographs_at_once(part.view), lambda pictures, *_: run(pictures)
            )

    def _grams(self, model: Model) -> Array:
        """(elements, n, 5) in grams of one model."""
        grams = self.run(model, model.net.grams).numpy()
        if not np.isfinite(grams).all():
            raise JobError(f"{model.name}: a prediction is not finite; its weights are damaged, build the blend again")
        return project(grams)

    def run(self, model: Model, call: Callable[[Batch], Tensor]) -> Tensor:
        """(elements, n, ...) float64 on the CPU: what a call on the model's network makes of the photographs."""
        n, features, semantic, recipe = len(self.chunk), model.features, model.semantic, model.recipe

        def run(views: Tensor, element: int, rows: slice) -> Tensor:
            second = semantic[element, rows].mean(dim=1).to(self.device) if semantic is not None else None
            with autocast(self.device, recipe.optimizer.precision):
                return call(Batch(views, second)).double().cpu()

        def attempt(size: int) -> Tensor:
            with _device_errors(model.name, last=size <= 1):
                model.net.to(self.device)
                if features is None:
                    return self._over_pictures(recipe.view, size, run)
                batches = [slice(start, min(start + size, n)) for start in range(0, n, size)]
                each = [
                    torch.cat([run(features[element, rows].to(self.device), element, rows) for rows in batches])
                    for element in range(len(self.elements))
                ]
                return torch.stack(each)

        at_once = n if features is not None else self._photographs_at_once(recipe.view)
        return with_smaller_batches(at_once, attempt)[0]

    def _over_pictures(self, view: View, size: int, run: Callable[[Tensor, int, slice], Tensor]) -> Tensor:
        """(elements, n, ...): what `run` makes of the pictures, `size` photographs at a time.

        Args:
            view: how photographs are cut.
            size: photographs at a time.
            run: gets pictures (b, views, size, size, 3) on the device, the number of the element and the rows.
        """
        n, batches = len(self.chunk), []
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            pictures = self.chunk.views(view, rows.start, rows.stop).to(self.device)
            turned = (d4.apply(pictures, element) for element in self.elements)
            batches.append(torch.stack([run(pictures, number, rows) for number, pictures in enumerate(turned)]))
            self._tell(rows.stop)
        self.passes_done += 1
        return torch.cat(batches, dim=1)

    def _photographs_at_once(self, view: View) -> int:
        return min(len(self.chunk), max(1, batch_size(view.size, self.device) // view_count(view)))

    def _tell(self, photographs: int) -> None:
        """Report progress: photographs of the current pass over the pictures, as a share of all passes."""
        share = (self.passes_done * len(self.chunk) + photographs) / self.passes
        self.watch("predicting", self.chunk.rows.start + int(share), len(self.ids))


def _network_passes(blend: Blend) -> int:
    """How many times networks look at the pictures: once a frozen backbone, once a model whose backbone was trained."""
    frozen, trained = set(), 0
    for member in blend.members:
        if member.recipe is None:
            continue
        for part, digest in ((member.recipe, member.backbone), (member.recipe.semantic, member.semantic)):
            if part and part.banked and not part.backbone.bank:
                frozen.add(_Source.of(part, digest))
        trained += 0 if member.recipe.banked else member.folds
    return len(frozen) + trained


def _pretrained(blend: Blend, key: str, recipe: Recipe, digest: str) -> Backbone:
    """A pretrained backbone of a member from the blend folder, after checking that it is the one it was trained on."""
    state = blend.backbone_weights(digest)
    try:
        backbone = create_backbone(recipe.backbone, recipe.view.size, state).eval()
    except RuntimeError:  # other tensors, or other shapes
        backbone = None
    if backbone is None or backbone.digest() != blend.half.get(digest, digest):
        raise InputError(
            f"{blend.folder}: backbones/{digest}.safetensors are not the weights of {recipe.backbone.name} that "
            f"{key} was trained on; build the blend again"
        )
    return backbone


@contextmanager
def _device_errors(name: str, last: bool = True) -> Iterator[None]:
    """Turn errors of the device into one line.

    Args:
        name: of the model, for messages.
        last: whether there is no smaller batch to try; else an out-of-memory error is left to `with_smaller_batches`.

    Raises:
        JobError: the memory does not suffice for one photograph, or the device failed.
        torch.OutOfMemoryError: the memory does not suffice for the batch.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in reason
        if not memory and not is_device_lost(error):
            raise
        if memory and not last:
            raise torch.OutOfMemoryError(reason) from None
        advice = "end other programs that use the device, or predict on the CPU (CUDA_VISIBLE_DEVICES='')"
        if memory:
            raise JobError(f"{name}: the memory does not suffice for a single photograph; {advice}") from None
        raise JobError(f"{name}: the device failed ({reason}); {advice}") from None
