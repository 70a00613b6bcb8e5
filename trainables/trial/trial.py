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

from pasture.errors import JobError
from pasture.folds import OUTER, held_out_rows, outer_rows, training_rows
from pasture.metric import target_r2, weighted_r2
from pasture.oof import OofTable
from pasture.targets import TARGETS, Array
from pasture.verification import VerifiedDataset
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import versions
from trainables.training.nets import backbone_digests
from trainables.trial.fold_executor import FoldExecutor, FoldState

Report = dict[str, float | int]


class Trial:
    """One recipe on all folds, an epoch at a time.

    Args:
        name: of the trial, in its files.
        recipe: what to train.
        dataset: labelled images.
        executor: trains the folds.

    Attributes:
        curve: one report an epoch, scalars only.
    """

    def __init__(self, name: str, recipe: Recipe, dataset: VerifiedDataset, executor: FoldExecutor) -> None:
        self.name, self.recipe, self.dataset, self.executor = name, recipe, dataset, executor
        self.folds = recipe.validation.assign(dataset)
        self.held = np.flatnonzero(self.folds >= 0)
        self.curve: list[Report] = []
        self.epochs: list[Array] = []

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or no better one has come for long enough (early stopping)."""
        epochs, patience = len(self.curve), self.recipe.schedule.early_stopping
        return epochs >= self.recipe.epochs or bool(patience and epochs - 1 - self.best_epoch >= patience)

    @property
    def best_epoch(self) -> int:
        """0-based epoch whose pooled OOF score is best; the first of equals."""
        return int(np.argmax(self._scores())) if self.curve else 0

    @property
    def fold_numbers(self) -> range:
        """From 0."""
        return range(int(self.folds.max()) + 1)

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
        told = self.executor.train(epoch, self._scores())
        trained = [told[fold] for fold in self.fold_numbers]
        oof = self._oof((d4.IDENTITY,))[:, 0]
        truth = self.dataset.targets[self.held]
        epoch_score = weighted_r2(truth, oof)
        seconds = time.perf_counter() - start
        images = sum(len(training_rows(self.folds, fold)) for fold in self.fold_numbers)
        report: Report = {
            "epoch": epoch + 1,
            "score": epoch_score,
            "epoch_score": epoch_score,
            "best_epoch": epoch + 1,
            "train_loss": float(np.mean([fold.loss for fold in trained])),
            **{f"r2_{target}": value for target, value in target_r2(truth, oof).items()},
            **trained[0].learning_rates,
            "micro_batch": min(fold.micro_batch for fold in trained),
            "seconds": seconds,
            "images_per_second": images / seconds,
        }
        self.epochs.append(oof)
        self.curve.append(report)
        if self.best_epoch == epoch:
            self.executor.keep()
        else:
            report |= {"score": self.curve[self.best_epoch]["epoch_score"], "best_epoch": self.best_epoch + 1}
        return report

    def finish(self) -> OofTable:
        """Go back to the best epoch and predict every held-out image under all eight elements of D4."""
        self.executor.go_back()
        predictions = self._oof(d4.ALL)
        ids = self.dataset.ids
        metadata: dict[str, Any] = {
            "trial": self.name,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.hash,
            "score": self.curve[self.best_epoch]["epoch_score"],
            "epoch": self.best_epoch,
            "curve": self.curve,
            "fingerprint": self.dataset.fingerprint,
            "pseudo_images": int((~self.dataset.measured).sum()),
            **backbone_digests(self.recipe, [ids[i] for i in self.held]),
            "versions": versions(),
        }
        return OofTable([ids[i] for i in self.held], self.folds[self.held], predictions, metadata)

    def outer_table(self) -> OofTable | None:
        """Predictions for the images of outer dates, by the weights that `finish` went back to: the mean over folds
        under all eight elements of D4. None where no date is held out of the sweep."""
        rows = outer_rows(self.folds)
        if not len(rows):
            return None
        predictions = np.mean([*self.executor.predict_outer(d4.ALL).values()], axis=0)
        ids = self.dataset.ids
        metadata = {"trial": self.name, "recipe_hash": self.recipe.hash, "fingerprint": self.dataset.fingerprint}
        return OofTable([ids[i] for i in rows], np.full(len(rows), OUTER, np.int8), predictions, metadata)

    def state(self) -> bytes:
        """Everything that continuing needs, all folds in one piece, whoever trains them."""
        states = self.executor.state()
        content = {
            "recipe_hash": self.recipe.hash,
            "fingerprint": self.dataset.fingerprint,
            "curve": self.curve,
            "epochs": torch.from_numpy(np.array(self.epochs)),
            "best": [states[fold].best for fold in self.fold_numbers],
            "learners": [states[fold].learner for fold in self.fold_numbers],
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
        if owner != (self.recipe.hash, self.dataset.fingerprint):
            raise JobError(f"checkpoint of {self.name} belongs to another recipe or dataset")
        folds = map(FoldState, state["learners"], state["best"])
        self.executor.load_state(dict(enumerate(folds)))
        self.curve = state["curve"]
        self.epochs = [*state["epochs"].numpy()]

    def _oof(self, elements: tuple[int, ...]) -> Array:
        """(held images, elements, 5) in grams, each image by the fold that has not seen it."""
        result = np.empty((len(self.dataset), len(elements), len(TARGETS)))
        for fold, grams in self.executor.predict(elements).items():
            result[held_out_rows(self.folds, fold)] = grams
        return result[self.held]
