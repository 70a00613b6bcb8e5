"""A trial: one recipe trained on all folds in lock-step.

After every epoch the trial knows the out-of-fold (OOF) prediction of every image, so that its score is the competition
metric itself, over all images. Which epoch counts follows one rule for all folds, `schedule.choose`: choosing an epoch
per fold would inflate the OOF.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from pasture.errors import JobError
from pasture.folds import OUTER, held_out_rows, of_model, outer_rows, training_rows
from pasture.metric import target_r2, weighted_r2
from pasture.oof import OofTable, Origin
from pasture.targets import TARGETS, WEIGHTS, Array
from pasture.verification import VerifiedDataset
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import versions
from trainables.training.nets import backbone_digests
from trainables.trial.fold_executor import FoldExecutor, FoldState

Report = dict[str, Any]


class Trial:
    """One recipe on all folds, one epoch at a time.

    Args:
        name: name of the trial, in its files.
        recipe: what to train.
        dataset: labelled images.
        executor: trains the folds.
        rungs: numbers of epochs (1-based) whose reports have `date_losses`; the last epoch's always has them.
        origin: where the trial comes from; kept in the OOF table's metadata.

    Attributes:
        curve: one report per epoch.
        splits: (repeats, images) fold in which each image is held out.
        epochs: (held-out images, 5) plain OOF predictions in grams of each epoch, the mean over repeats.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        dataset: VerifiedDataset,
        executor: FoldExecutor,
        rungs: Collection[int] = (),
        origin: Origin = "search",
    ) -> None:
        self.name, self.recipe, self.dataset, self.executor = name, recipe, dataset, executor
        self.rungs, self.origin = rungs, origin
        self.splits = recipe.validation.splits(dataset)
        self.folds = self.splits[0]
        self.held = np.flatnonzero(self.folds >= 0)
        self.curve: list[Report] = []
        self.epochs: list[Array] = []

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or early stopping has ended the trial."""
        epochs, patience = len(self.curve), self.recipe.schedule.early_stopping
        return epochs >= self.recipe.epochs or bool(patience and epochs - 1 - self._highest >= patience)

    @property
    def best_epoch(self) -> int:
        """0-based epoch that counts under `schedule.choose`, for all folds; the last one of an average."""
        return self._highest if self.recipe.schedule.choose == "best" else max(0, len(self.curve) - 1)

    @property
    def fold_numbers(self) -> range:
        """Numbers of the folds of all repeats, from 0."""
        return range(self.recipe.folds)

    def step(self) -> Report:
        """Train one epoch of every fold and score the pooled OOF.

        Returns:
            `epoch` (1-based), `score`, `epoch_score` (of this epoch alone), `best_epoch` (the 1-based epoch that would
            count if training stopped now), `train_loss`, `r2_<target>` of this epoch, learning rates, `micro_batch`
            (images in memory at a time), `seconds`, `images_per_second`; at rungs and at the end `date_losses`, the
            weighted residual sum of squares on each date, dates sorted, of the predictions that `score` is computed on.

            `score` is that of what would count if training stopped now: of this epoch with `schedule.choose=last`, of
            the best epoch so far with `best`. With `average` it is the score of the averaged weights after the last
            epoch; before, when averaging would mean to keep the weights of many epochs, it is the score of the mean of
            the predictions of the last `average_share` of the epochs so far.

        Raises:
            JobError: the loss or a prediction is not finite.
        """
        start = time.perf_counter()
        epoch = len(self.curve)
        facts = self.executor.train(epoch, self._scores())
        trained = [facts[fold] for fold in self.fold_numbers]
        oof = self._oof((d4.IDENTITY,))[:, 0]
        truth = self.dataset.targets[self.held]
        epoch_score = weighted_r2(truth, oof)
        seconds = time.perf_counter() - start
        images = sum(len(training_rows(*of_model(self.splits, fold))) for fold in self.fold_numbers)
        report: Report = {
            "epoch": epoch + 1,
            "score": epoch_score,  # of this epoch, until the one that counts is known
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
        report["score"], counted = self._counted()
        report["best_epoch"] = self.best_epoch + 1
        if self.done or epoch + 1 in self.rungs:
            report["date_losses"] = self._date_losses(counted)
        return report

    def finish(self) -> OofTable:
        """Predict every held-out image under all eight elements of D4, by the weights that count."""
        if self.recipe.schedule.choose == "best":
            self.executor.go_back()
        else:
            self.executor.keep()
        predictions = self._oof(d4.ALL)
        ids = self.dataset.ids
        metadata: dict[str, Any] = {
            "trial": self.name,
            "origin": self.origin,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.hash,
            "score": self.curve[-1]["score"],
            "epoch": self.best_epoch,
            "choose": self.recipe.schedule.choose,
            "curve": self.curve,
            "fingerprint": self.dataset.fingerprint,
            "pseudo_images": self.dataset.leaking,
            **backbone_digests(self.recipe, [ids[i] for i in self.held]),
            "versions": versions(),
        }
        return OofTable([ids[i] for i in self.held], self.folds[self.held], predictions, metadata)

    def outer_table(self) -> OofTable | None:
        """Predictions for the images of outer dates by the weights that count, the mean over folds, under all eight
        elements of D4; None if the sweep holds out no dates. Call `finish` first."""
        rows = outer_rows(self.folds)
        if not len(rows):
            return None
        predictions = np.mean([*self.executor.predict_outer(d4.ALL).values()], axis=0)
        ids = self.dataset.ids
        metadata = {"trial": self.name, "recipe_hash": self.recipe.hash, "fingerprint": self.dataset.fingerprint}
        return OofTable([ids[i] for i in rows], np.full(len(rows), OUTER, np.int8), predictions, metadata)

    def state(self) -> bytes:
        """Everything needed to continue, all folds in one piece, with any executor."""
        states = self.executor.state()
        content = {
            "recipe_hash": self.recipe.hash,
            "fingerprint": self.dataset.fingerprint,
            "curve": self.curve,
            "epochs": torch.from_numpy(np.array(self.epochs)),
            "kept": [states[fold].kept for fold in self.fold_numbers],
            "learners": [states[fold].learner for fold in self.fold_numbers],
        }
        sink = io.BytesIO()
        torch.save(content, sink)
        return sink.getvalue()

    def load_state(self, content: bytes) -> None:
        """Continue from a `state`.

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
        folds = map(FoldState, state["learners"], state["kept"])
        self.executor.load_state(dict(enumerate(folds)))
        self.curve = state["curve"]
        self.epochs = [*state["epochs"].numpy()]

    def _counted(self) -> tuple[float, Array]:
        """Score and (held-out images, 5) plain OOF of what would count if training stopped now; the weights of a best
        epoch are kept, averaged ones are loaded."""
        if self.recipe.schedule.choose != "average":
            if self.recipe.schedule.choose == "best" and self._highest == len(self.epochs) - 1:
                self.executor.keep()
            return self._scores()[self.best_epoch], self.epochs[self.best_epoch]
        if self.done:
            self.executor.load_average()
            oof = self._oof((d4.IDENTITY,))[:, 0]
        else:
            window = math.ceil(self.recipe.schedule.average_share * len(self.epochs))
            oof = np.asarray(np.mean(self.epochs[-window:], axis=0))
        return weighted_r2(self.dataset.targets[self.held], oof), oof

    def _date_losses(self, oof: Array) -> list[float]:
        """Weighted residual sum of squares on each date, dates sorted: 1 less their sum over the total sum of squares
        is the score."""
        day = np.unique(self.dataset.dates[self.held], return_inverse=True)[1]
        losses = (oof - self.dataset.targets[self.held]) ** 2 @ WEIGHTS
        return [float(loss) for loss in np.bincount(day, losses)]

    @property
    def _highest(self) -> int:
        """0-based epoch with the best pooled OOF score; the first of equals."""
        return int(np.argmax(self._scores())) if self.curve else 0

    def _scores(self) -> list[float]:
        return [float(report["epoch_score"]) for report in self.curve]

    def _oof(self, elements: tuple[int, ...]) -> Array:
        """(held-out images, elements, 5) in grams, each image predicted by the fold that holds it out; the mean over
        repeats."""
        result = np.zeros((len(self.dataset), len(elements), len(TARGETS)))
        for fold, grams in sorted(self.executor.predict(elements).items()):
            result[held_out_rows(*of_model(self.splits, fold))] += grams
        return result[self.held] / len(self.splits)
