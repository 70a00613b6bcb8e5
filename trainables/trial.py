"""A trial: one recipe trained on all folds in lock-step.

After every epoch the trial knows the out-of-fold (OOF) prediction of every image, so that the number it is judged on is
the competition metric itself, over all images. The epoch whose *pooled* score is best is the trial's epoch, one for all
folds: choosing an epoch per fold would inflate the OOF.
"""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pasture.dataset import Dataset
from pasture.errors import JobError
from pasture.files import Folder
from pasture.folds import held_out_rows, make_folds, training_rows
from pasture.metric import target_r2, weighted_r2
from pasture.oof import OofTable
from pasture.targets import TARGETS, Array
from trainables import d4
from trainables.fitted_learner import FittedLearner
from trainables.inputs import Inputs, make_inputs
from trainables.learner import FoldLearner
from trainables.nets import backbone_digests, widths
from trainables.recipe import Recipe
from trainables.versions import versions

Report = dict[str, float | int]


class Trial:
    """One recipe on all folds, an epoch at a time.

    Args:
        name: of the trial, in its files.
        recipe: what to train.
        dataset: labelled images.
        fingerprint: of the dataset.
        device: where to compute.
        shared: folder that all nodes of a cluster see, for feature banks under way; none is needed on one node.

    Attributes:
        curve: one report an epoch, scalars only.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        dataset: Dataset,
        fingerprint: str,
        device: torch.device,
        shared: Folder | None = None,
    ) -> None:
        self.name, self.recipe, self.dataset, self.fingerprint = name, recipe, dataset, fingerprint
        v = recipe.validation
        self.folds = make_folds(dataset, v.splitter, v.folds, v.seed)
        self.held = np.flatnonzero(self.folds >= 0)
        inputs: Inputs = make_inputs(recipe, dataset, fingerprint, device, shared)
        sizes = widths(recipe)
        kind = FoldLearner if recipe.neural else FittedLearner
        self.learners = [
            kind(recipe, fold, sizes, inputs, dataset, training_rows(self.folds, fold), device)
            for fold in range(int(self.folds.max()) + 1)
        ]
        self.curve: list[Report] = []
        self.epochs: list[Array] = []
        self.best: list[dict[str, Tensor]] = []

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or no better one has come for long enough (early stopping)."""
        epochs, patience = len(self.curve), self.recipe.schedule.early_stopping
        return epochs >= self.recipe.epochs or bool(patience and epochs - 1 - self.best_epoch >= patience)

    @property
    def best_epoch(self) -> int:
        """0-based epoch whose pooled OOF score is best; the first of equals."""
        return int(np.argmax(self._scores())) if self.curve else 0

    def _scores(self) -> list[float]:
        return [float(report["epoch_score"]) for report in self.curve]

    def step(self) -> Report:
        """Train one epoch of every fold and score the pooled OOF.

        Returns:
            `epoch` (1-based), `score` (of the best epoch so far), `epoch_score`, `best_epoch`, `train_loss`,
            `r2_<target>`, learning rates, `micro_batch` (images in memory at a time), `seconds`, `images_per_second`.

        Raises:
            JobError: the loss or a prediction is not finite.
        """
        start = time.perf_counter()
        epoch = len(self.curve)
        losses = [learner.train_epoch(epoch, self._scores()) for learner in self.learners]
        oof = self._oof((d4.IDENTITY,))[:, 0]
        truth = self.dataset.targets[self.held]
        epoch_score = weighted_r2(truth, oof)
        seconds = time.perf_counter() - start
        trained = sum(len(learner.rows) for learner in self.learners)
        report: Report = {
            "epoch": epoch + 1,
            "score": epoch_score,
            "epoch_score": epoch_score,
            "best_epoch": epoch + 1,
            "train_loss": float(np.mean(losses)),
            **{f"r2_{target}": value for target, value in target_r2(truth, oof).items()},
            **self.learners[0].rates(),
            "micro_batch": min(learner.micro_batch for learner in self.learners),
            "seconds": seconds,
            "images_per_second": trained / seconds,
        }
        self.epochs.append(oof)
        self.curve.append(report)
        if self.best_epoch == epoch:
            self.best = [learner.weights() for learner in self.learners]
        else:
            report |= {"score": self.curve[self.best_epoch]["epoch_score"], "best_epoch": self.best_epoch + 1}
        return report

    def finish(self) -> OofTable:
        """Go back to the best epoch and predict every held-out image under all eight elements of D4."""
        for learner, weights in zip(self.learners, self.best, strict=True):
            learner.load_weights(weights)
        predictions = self._oof(d4.ALL)
        ids = self.dataset.ids
        metadata: dict[str, Any] = {
            "trial": self.name,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.hash,
            "score": self.curve[self.best_epoch]["epoch_score"],
            "epoch": self.best_epoch,
            "curve": self.curve,
            "fingerprint": self.fingerprint,
            "pseudo_images": int((~self.dataset.measured).sum()),
            **backbone_digests(self.recipe),
            "versions": versions(),
        }
        return OofTable([ids[i] for i in self.held], self.folds[self.held], predictions, metadata)

    def state(self) -> bytes:
        """Everything that continuing needs, all folds in one piece."""
        content = {
            "recipe_hash": self.recipe.hash,
            "fingerprint": self.fingerprint,
            "curve": self.curve,
            "epochs": torch.from_numpy(np.array(self.epochs)),
            "best": self.best,
            "learners": [learner.state() for learner in self.learners],
        }
        sink = io.BytesIO()
        torch.save(content, sink)
        return sink.getvalue()

    def load_state(self, content: bytes) -> None:
        """Continue where `state` was taken.

        Raises:
            JobError: damaged, or of another recipe or dataset.
        """
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            owner = state["recipe_hash"], state["fingerprint"]
        except Exception as error:  # torch.load has no one error for a damaged file
            raise JobError(f"checkpoint of {self.name} is damaged ({type(error).__name__})") from None
        if owner != (self.recipe.hash, self.fingerprint):
            raise JobError(f"checkpoint of {self.name} belongs to another recipe or dataset")
        for learner, saved in zip(self.learners, state["learners"], strict=True):
            learner.load_state(saved)
        self.curve, self.best = state["curve"], state["best"]
        self.epochs = [*state["epochs"].numpy()]

    def _oof(self, elements: tuple[int, ...]) -> Array:
        """(held images, elements, 5) in grams, each image by the fold that has not seen it."""
        result = np.empty((len(self.dataset), len(elements), len(TARGETS)))
        for fold, learner in enumerate(self.learners):
            rows = held_out_rows(self.folds, fold)
            result[rows] = learner.predict(rows, elements)
        return result[self.held]
