"""Training one fold: a network, its optimiser and its training rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from pasture.dataset import Dataset
from pasture.errors import JobError
from pasture.projection import project
from pasture.targets import Array
from trainables.compute.memory import with_smaller_batches
from trainables.compute.precision import autocast, gradient_scaler
from trainables.compute.ranks import ALONE, Ranks
from trainables.features.inputs import Inputs, Rows
from trainables.network.model import Batch, BiomassNet
from trainables.network.tuning import set_tuning, train_mode
from trainables.recipe.recipe import Recipe
from trainables.recipe.seeds import mix, torch_seed
from trainables.training.averaging import MovingAverage, WeightAverage, fresh_statistics, trained_norms
from trainables.training.losses import auxiliary, head_losses, loss
from trainables.training.nets import Widths, create_net, load_weights, saved_names, standardize, trained_names
from trainables.training.optimizer import create_optimizer, rate_factor, set_learning_rates
from trainables.training.truth import training_truth

_PREDICT_BATCH = 64


class FoldLearner:
    """Trains one fold epoch by epoch and predicts.

    Everything that is fitted to data (feature and target statistics, label density, teacher, starting bias) is fitted
    to the training rows. Every random draw is seeded by (recipe seed, fold, epoch).

    Args:
        recipe: what to train.
        fold: number of the fold.
        sizes: lengths of the backbones' feature vectors.
        inputs: the photographs.
        dataset: the truth; only `rows` are read.
        rows: the training rows.
        device: where to compute.
        ranks: the processes that train this fold together; each takes a share of every batch.

    Attributes:
        micro_batch: number of images in memory at a time in training: this process's share of a batch, or less after a
            GPU has run out of memory.
        predict_batch: the same for predictions.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.recipe, self.fold, self.inputs, self.rows, self.device = recipe, fold, inputs, rows, device
        self.ranks = ranks
        self.truth = training_truth(recipe, fold, dataset, rows, device)
        with torch_seed(mix(recipe.seed, fold), device):
            # Pictures are channels-last, and convolutions are fastest on that layout.
            self.net = create_net(recipe, sizes)
            self.net.classify(*(0 if t is None else t.shape[1] for t in (self.truth.states, self.truth.species)))
            self.net.to(device).to(memory_format=torch.channels_last)
        if recipe.backbone.compile and self.net.backbone is not None:
            self.net.backbone.compile()
        standardize(self.net, inputs, rows[dataset.measured[rows]])
        self.net.codec.fit(self.truth.grams)
        self.net.start_at(self.truth.grams)
        self.names = trained_names(self.net, recipe)
        self.ema = MovingAverage(self.net, recipe.optimizer.ema, self.names) if recipe.optimizer.ema else None
        self.average = WeightAverage()
        self.batches = math.ceil(len(rows) / recipe.schedule.batch_size)
        self.steps_an_epoch = math.ceil(self.batches / recipe.optimizer.grad_accum_steps)
        self.scaler = gradient_scaler(device, recipe.optimizer.precision)
        self.micro_batch = math.ceil(recipe.schedule.batch_size / ranks.size)
        self.predict_batch = _PREDICT_BATCH
        self._enter(0)

    def limit(self, images: int) -> Self:
        """Limit the number of images that are in memory at a time in training; returns itself."""
        self.micro_batch = min(self.micro_batch, images)
        return self

    def train_epoch(self, epoch: int, scores: list[float]) -> float:
        """Make one pass over the training rows and return the mean loss.

        Args:
            epoch: 0-based.
            scores: the trial's scores of the epochs before.

        Raises:
            JobError: the loss is not finite.
        """
        stage, first, last = stage_of(self.recipe, epoch)
        if stage != self.stage:
            self._enter(stage)
        seed = mix(self.recipe.seed, self.fold, epoch + 1)
        generator = np.random.default_rng(seed)
        self.net.train()
        if self.net.backbone is not None:
            train_mode(self.net.backbone)
        total = torch.zeros((), device=self.device)
        # Batches of nearly equal size: a last batch of one image would break a batch norm.
        batches = np.array_split(generator.permutation(len(self.rows)), self.batches)
        drawn = self.inputs.training([self.rows[chosen] for chosen in batches], generator, self.ranks)
        every = self.recipe.optimizer.grad_accum_steps
        steps = (last - first) * self.steps_an_epoch
        # Dropout must differ between the shares of a batch.
        with torch_seed(seed + self.ranks.rank, self.device):
            for i in range(0, len(batches), every):
                step = (epoch - first) * self.steps_an_epoch + i // every
                set_learning_rates(self.optimizer, rate_factor(self.recipe.schedule, step, steps, scores[first:]))
                chosen = batches[i : i + every]
                total += self._step(list(zip(chosen, itertools.islice(drawn, len(chosen)), strict=True)), generator)
        self.ranks.copy_buffers(self.net)
        if self.ema is not None:
            self.ranks.copy_buffers(self._evaluated())
        mean = float(self.ranks.sum(total)) / len(self.rows)
        if not math.isfinite(mean):
            raise JobError(f"fold {self.fold}, epoch {epoch + 1}: the loss is {mean}; lower the learning rates")
        if epoch >= self.recipe.epochs - self.recipe.averaged_epochs:
            self.average.add(self.weights())
        return mean

    def load_average(self) -> None:
        """Load the mean of the weights after each of the last epochs, to predict with it.

        Batch norms that are trained take new running statistics from a pass over the training rows: the mean of
        statistics is not the statistics of the mean (Izmailov et al. 2018, section 3.2).
        """
        self.load_weights(self.average.mean)
        net = self._evaluated()
        norms = trained_norms(net, self.names)
        if norms:
            generator = np.random.default_rng(mix(self.recipe.seed, self.fold, self.recipe.epochs + 1))
            order = np.array_split(generator.permutation(len(self.rows)), self.batches)
            drawn = self.inputs.training([self.rows[chosen] for chosen in order], generator, self.ranks)
            with fresh_statistics(net, norms), autocast(self.device, self.recipe.optimizer.precision):
                for batch in drawn:
                    count = len(batch.views)  # this process's share of the smallest batch may be empty
                    for part in np.array_split(np.arange(count), math.ceil(count / self.micro_batch)) if count else ():
                        net.embed(batch.part(part[0], part[-1] + 1, self.device))
            self.ranks.copy_buffers(net)

    def predict(self, rows: Rows, elements: tuple[int, ...]) -> Array:
        """(rows, elements, 5) in grams, projected onto the mass balance.

        Raises:
            JobError: a prediction is not finite.
        """
        grams, self.predict_batch = with_smaller_batches(
            self.predict_batch, lambda size: self._grams(rows, elements, size)
        )
        if not np.isfinite(grams).all():
            raise JobError(f"fold {self.fold}: a prediction is not finite; lower the learning rates")
        return project(grams)

    def weights(self) -> dict[str, Tensor]:
        """The tensors that differ from the pretrained backbone and that predictions need, on the CPU, as evaluated and
        saved: averaged ones, with an EMA."""
        return self._tensors(self._evaluated(), saved_names(self.names))

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the result of `weights`, to predict with it."""
        load_weights(self._evaluated(), weights, saved_names(self.names))

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, on the CPU."""
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            index: {name: value.cpu() if isinstance(value, Tensor) else value for name, value in moments.items()}
            for index, moments in optimizer["state"].items()
        }
        return {
            "stage": self.stage,
            "net": self._tensors(self.net, self.names),
            "ema": (self._tensors(self._evaluated(), self.names), self.ema.updates) if self.ema else None,
            "average": (self.average.mean, self.average.epochs),
            "batches": (self.micro_batch, self.predict_batch),
            "optimizer": optimizer,
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self._enter(state["stage"])
        load_weights(self.net, state["net"], self.names)
        if self.ema is not None:
            weights, updates = state["ema"]
            load_weights(self._evaluated(), weights, self.names)
            self.ema.updates = updates
        self.average = WeightAverage(*state["average"])
        # What was too much for a GPU's memory once is not tried again.
        self.micro_batch, self.predict_batch = map(min, (self.micro_batch, self.predict_batch), state["batches"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def learning_rates(self) -> dict[str, float]:
        """Learning rates of the last step."""
        groups = self.optimizer.param_groups
        rates = {"head_lr": float(groups[0]["lr"])}
        if self.net.backbone is not None and any(p.requires_grad for p in self.net.backbone.parameters()):
            rates["backbone_lr"] = float(groups[-1]["lr"])
        return rates

    def _enter(self, stage: int) -> None:
        """Begin a stage: mark what it trains, and create an optimiser of that."""
        self.stage = stage
        settings = self.recipe.stages[stage]
        if self.net.backbone is not None:
            set_tuning(self.net.backbone, self.recipe.backbone, settings.tuning, settings.blocks)
        self.optimizer = create_optimizer(self.recipe.optimizer, settings, self.net)

    def _evaluated(self) -> BiomassNet:
        if self.ema is None:
            return self.net
        return cast(BiomassNet, self.ema.module)

    def _tensors(self, net: BiomassNet, names: set[str]) -> dict[str, Tensor]:
        state = net.state_dict()
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in state.items()
            if name in names
        }

    @torch.inference_mode()
    def _grams(self, rows: Rows, elements: tuple[int, ...], batch: int) -> Array:
        net = self._evaluated()
        net.eval()
        parts = []
        for chosen in np.array_split(rows, math.ceil(len(rows) / batch)):
            with autocast(self.device, self.recipe.optimizer.precision):
                predicted = [net.grams(self.inputs.element(chosen, e)) for e in elements]
            parts.append(torch.stack(predicted, dim=1).double().cpu().numpy())
        return np.concatenate(parts)

    def _step(self, batches: Sequence[tuple[Rows, Batch]], generator: np.random.Generator) -> Tensor:
        """One step of the optimiser over a few batches; the sum of their losses over this process's images."""
        total, self.micro_batch = with_smaller_batches(
            self.micro_batch, lambda size: self._gradients(batches, size, generator), self.ranks.any
        )
        self.ranks.sum_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        if self.recipe.optimizer.clip_grad:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.net.parameters(), self.recipe.optimizer.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update()
        return total

    def _gradients(
        self, batches: Sequence[tuple[Rows, Batch]], micro_batch: int, generator: np.random.Generator
    ) -> Tensor:
        """Add up the gradients of this process's share of a few batches, at most `micro_batch` images in memory at a
        time."""
        total = torch.zeros((), device=self.device)
        images = sum(len(chosen) for chosen, _ in batches)
        self.optimizer.zero_grad(set_to_none=True)
        for whole, batch in batches:
            chosen = whole[self.ranks.part(len(whole))]
            if not len(chosen):
                continue
            for part in np.array_split(np.arange(len(chosen)), math.ceil(len(chosen) / micro_batch)):
                rows = chosen[part]
                value = self._loss(rows, batch.part(part[0], part[-1] + 1, self.device), generator)
                self.scaler.scale(value * (len(rows) / images)).backward()  # type: ignore[no-untyped-call]
                total += value.detach() * len(rows)
        return total

    def _loss(self, chosen: Rows, batch: Batch, generator: np.random.Generator) -> Tensor:
        truth = self.truth.rows(torch.from_numpy(chosen).to(self.device))
        mixup = self.recipe.augment.mixup
        with autocast(self.device, self.recipe.optimizer.precision):
            fused = self.net.embed(batch)
            if generator.random() < mixup.probability:
                share = generator.beta(mixup.alpha, mixup.alpha)
                share = max(share, 1 - share)
                order = torch.from_numpy(generator.permutation(len(chosen))).to(self.device)
                fused = share * fused + (1 - share) * fused[order]
                truth = truth.mixed(order, share)
            outputs = self.net.outputs(fused)
        value = loss(self.recipe.loss, self.net.codec, outputs.encoded, truth, outputs.log_variance)
        if self.net.auxiliary is not None:
            assert truth.metadata is not None
            measured = self.net.auxiliary(fused.float().mean(dim=1))
            value = value + self.recipe.loss.auxiliary * auxiliary(measured, truth.metadata)
        return value + head_losses(self.recipe.loss, outputs, truth)


def stage_of(recipe: Recipe, epoch: int) -> tuple[int, int, int]:
    """Number of the stage an epoch lies in, with the stage's first epoch and the one after its last."""
    ends = np.round(np.cumsum([stage.share for stage in recipe.stages]) * recipe.epochs).astype(int).tolist()
    stage = next(i for i, end in enumerate(ends) if epoch < end)
    return stage, ends[stage - 1] if stage else 0, ends[stage]
