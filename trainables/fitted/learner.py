"""One fold of a recipe whose head is not a network: a model fitted once to the features of a frozen backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pasture.dataset import Dataset
from pasture.projection import project
from pasture.targets import TOTAL, Array
from trainables.features.inputs import Inputs, Rows
from trainables.fitted.model import FittedModel
from trainables.images import d4
from trainables.images.views import view_groups
from trainables.network.fusion import Fuse
from trainables.network.model import Batch
from trainables.recipe.recipe import Recipe
from trainables.recipe.seeds import mix
from trainables.training.lds import image_weights
from trainables.training.losses import regression
from trainables.training.nets import Widths


class FittedNet(nn.Module):
    """A fitted model that takes batches of features, fused as in a network."""

    def __init__(self, recipe: Recipe, sizes: Widths) -> None:
        super().__init__()
        self.fuse = Fuse(recipe.fusion, view_groups(recipe.view), sizes.features)
        self.model = FittedModel(recipe, self.fuse.width + sizes.semantic)

    def features(self, batch: Batch) -> Tensor:
        """(n, d) fused features."""
        fused: Tensor = self.fuse(batch.views)[:, 0]
        return fused if batch.semantic is None else torch.cat([fused, batch.semantic], dim=1)

    def grams(self, batch: Batch) -> Tensor:
        """(n, 5) predictions in grams, not yet projected onto the mass balance."""
        grams: Tensor = self.model.grams(self.features(batch))
        return grams


class FittedLearner:
    """Same interface as `FoldLearner`, with a single epoch of training.

    It is fitted to one row per image: with several D4 elements of an image as rows, the leave-one-out choice of the
    ridge penalty would see the image that it leaves out. PLS and ridge with a fixed penalty take the mean of the
    features over the D4 elements, the other heads take those of the unaugmented image.
    """

    def __init__(
        self,
        recipe: Recipe,
        fold: int,
        sizes: Widths,
        inputs: Inputs,
        dataset: Dataset,
        rows: Rows,
        device: torch.device,
    ) -> None:
        self.recipe, self.fold, self.inputs, self.rows = recipe, fold, inputs, rows
        self.truth = dataset.targets[rows]
        self.image_weights = image_weights(self.truth[:, TOTAL], dataset.pseudo_weights[rows], recipe.loss.lds)
        self.net = FittedNet(recipe, sizes)
        self.micro_batch = len(rows)

    def train_epoch(self, epoch: int, scores: list[float]) -> float:
        """Fit to the training rows; returns the training loss in grams, by the recipe's regression loss."""
        features = self._training_features()
        self.net.model.fit(features.double().numpy(), self.truth, self.image_weights, mix(self.recipe.seed, self.fold))
        fitted = self.net.model.grams(features)
        return float(regression(self.recipe.loss, fitted.float(), torch.from_numpy(self.truth).float()).mean())

    def predict(self, rows: Rows, elements: tuple[int, ...]) -> Array:
        """(rows, elements, 5) in grams, projected onto the mass balance."""
        grams = [self.net.model.grams(self._features(rows, element)) for element in elements]
        return project(torch.stack(grams, dim=1).double().numpy())

    def weights(self) -> dict[str, Tensor]:
        """The fitted model as tensors."""
        return {name: tensor.clone() for name, tensor in self.net.state_dict().items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the result of `weights`."""
        self.net.load_state_dict(weights)

    def load_average(self) -> None:
        """Keep the weights: a single epoch is its own average."""

    def state(self) -> dict[str, Any]:
        """Everything needed to continue."""
        return self.weights()

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.load_weights(state)

    def learning_rates(self) -> dict[str, float]:
        """No learning rates."""
        return {}

    def _training_features(self) -> Tensor:
        head = self.recipe.head
        if not (head.kind == "pls" or (head.kind == "ridge" and head.penalty)):
            return self._features(self.rows, d4.IDENTITY)
        return torch.stack([self._features(self.rows, element) for element in d4.ALL]).mean(dim=0)

    def _features(self, rows: Rows, element: int) -> Tensor:
        return self.net.features(self.inputs.element(rows, element)).cpu()
