"""One fold: a network, its optimiser and the rows it may see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pasture.errors import JobError
from pasture.projection import project
from pasture.targets import TOTAL, Array
from trainables.backbone import create_backbone, set_tuning, train_mode
from trainables.inputs import Inputs, Rows
from trainables.lds import lds_weights
from trainables.losses import loss
from trainables.model import BiomassNet
from trainables.optim import create_optimizer, rate_factor, set_learning_rates
from trainables.precision import autocast, gradient_scaler
from trainables.recipe import Recipe
from trainables.seeds import mix, torch_seed

_PREDICT_BATCH = 64


class FoldLearner:
    """Trains one fold epoch by epoch and predicts.

    Everything that is fitted to data (target statistics, label density, the starting bias) is fitted to the training
    rows. Every random draw is seeded by (recipe seed, fold, epoch).

    Args:
        recipe: what to train.
        fold: number of the fold.
        features: length of the backbone's feature vector.
        inputs: the photographs.
        grams: (images, 5) truth of the whole dataset; only `rows` of it are looked at.
        rows: the training rows.
        device: where to compute.
    """

    def __init__(
        self, recipe: Recipe, fold: int, features: int, inputs: Inputs, grams: Array, rows: Rows, device: torch.device
    ) -> None:
        self.recipe, self.fold, self.inputs, self.rows, self.device = recipe, fold, inputs, rows, device
        self.grams = torch.from_numpy(grams[rows]).float().to(device)
        with torch_seed(mix(recipe.seed, fold), device):
            self.net = create_net(recipe, features).to(device)
        self.net.codec.fit(self.grams)
        self.net.start_at(self.net.codec.encode(self.grams))
        weights = lds_weights(grams[rows, TOTAL], recipe.loss.lds) if recipe.loss.lds.enabled else np.ones(len(rows))
        self.image_weights = torch.from_numpy(weights).float().to(device)
        self.optimizer = create_optimizer(recipe.optimizer, self.net)
        self.scaler = gradient_scaler(device, recipe.optimizer.precision)
        self.steps_an_epoch = math.ceil(len(rows) / recipe.schedule.batch_size)

    def train_epoch(self, epoch: int) -> float:
        """One pass over the training rows; the mean loss.

        Raises:
            JobError: the loss is not finite.
        """
        recipe = self.recipe
        seed = mix(recipe.seed, self.fold, epoch + 1)
        generator = np.random.default_rng(seed)
        self._train_mode()
        losses = torch.zeros((), device=self.device)
        # Batches of nearly equal size: a last batch of one image would break a batch norm.
        batches = np.array_split(generator.permutation(len(self.rows)), self.steps_an_epoch)
        with torch_seed(seed, self.device):
            for i, chosen in enumerate(batches):
                step = epoch * self.steps_an_epoch + i
                set_learning_rates(
                    self.optimizer,
                    rate_factor(recipe.schedule, step, recipe.schedule.epochs * self.steps_an_epoch),
                )
                losses += self._step(chosen, generator) * len(chosen)
        mean = float(losses) / len(self.rows)
        if not math.isfinite(mean):
            raise JobError(f"fold {self.fold}, epoch {epoch + 1}: the loss is {mean}; lower the learning rates")
        return mean

    @torch.inference_mode()
    def predict(self, rows: Rows, elements: tuple[int, ...]) -> Array:
        """(rows, elements, 5) in grams, projected onto the mass balance.

        Raises:
            JobError: a prediction is not finite.
        """
        self.net.eval()
        parts = []
        for chosen in np.array_split(rows, math.ceil(len(rows) / _PREDICT_BATCH)):
            with autocast(self.device, self.recipe.optimizer.precision):
                predicted = [self.net.grams(self.inputs.element(chosen, e)) for e in elements]
            parts.append(torch.stack(predicted, dim=1).double().cpu().numpy())
        grams = np.concatenate(parts)
        if not np.isfinite(grams).all():
            raise JobError(f"fold {self.fold}: a prediction is not finite; lower the learning rates")
        return project(grams)

    def weights(self) -> dict[str, Tensor]:
        """What differs from the pretrained backbone, on the CPU: what a finished fold is saved as."""
        frozen = frozen_names(self.net)
        state = self.net.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items() if name not in frozen}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over what `weights` gave."""
        load_weights(self.net, weights)

    def state(self) -> dict[str, Any]:
        """Everything that continuing needs."""
        return {
            "weights": self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.load_weights(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def rates(self) -> dict[str, float]:
        """Learning rates of the last step."""
        groups = self.optimizer.param_groups
        rates = {"head_lr": float(groups[0]["lr"])}
        if self.net.backbone is not None:
            rates["backbone_lr"] = float(groups[-1]["lr"])
        return rates

    def _train_mode(self) -> None:
        self.net.train()
        if self.net.backbone is not None:
            train_mode(self.net.backbone)

    def _step(self, chosen: Rows, generator: np.random.Generator) -> Tensor:
        index = torch.from_numpy(chosen)
        views = self.inputs.training(self.rows[chosen], generator)
        with autocast(self.device, self.recipe.optimizer.precision):
            predicted = self.net(views)
        value = loss(self.recipe.loss, self.net.codec, predicted.float(), self.grams[index], self.image_weights[index])
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value.detach()


def create_net(recipe: Recipe, features: int, backbone_state: dict[str, Tensor] | None = None) -> BiomassNet:
    """The network of a recipe; with a backbone inside only if any of it is trained.

    Args:
        recipe: what to build.
        features: length of the backbone's feature vector.
        backbone_state: pretrained weights to use instead of the recipe's source.
    """
    backbone = None
    if recipe.backbone.tuning != "frozen":
        backbone = create_backbone(recipe.backbone, recipe.view.size, backbone_state)
        set_tuning(backbone, recipe.backbone)
    return BiomassNet(recipe, features, backbone)


def frozen_names(net: BiomassNet) -> set[str]:
    """Names in the state dict that training leaves at their pretrained values."""
    if net.backbone is None:
        return set()
    names = set()
    for prefix, module in net.backbone.named_modules(prefix="backbone"):
        own = list(module.named_parameters(recurse=False))
        trained = any(p.requires_grad for _, p in own)
        names |= {f"{prefix}.{name}" for name, p in own if not p.requires_grad}
        if not trained:  # running statistics move only where the module is trained
            names |= {f"{prefix}.{name}" for name, _ in module.named_buffers(recurse=False)}
    return names


def load_weights(net: BiomassNet, weights: dict[str, Tensor]) -> None:
    """Load what `FoldLearner.weights` saved into a network with the same pretrained backbone.

    Raises:
        JobError: tensors are missing, too many or of other shapes.
    """
    try:
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise JobError(f"weights do not fit the recipe: {' '.join(str(error).split())[:200]}") from None
    lost = set(missing) - frozen_names(net)
    if lost or unexpected:
        raise JobError(f"weights do not fit the recipe: missing {sorted(lost)[:3]}, unexpected {unexpected[:3]}")
