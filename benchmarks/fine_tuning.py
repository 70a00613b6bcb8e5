"""An epoch of fine-tuning against the arithmetic alone: forward, backward and step on tensors that are resident.

EfficientNet-Lite0, all of it trained, on halves at 128 pixels with medium augmentation, one fold held out. The limit
runs the same number of batches of the same size through the same network, loss and optimiser, and predicts as many
held-out pictures; its pictures are already on the device and augmented. It is given the faster of the two memory
layouts. A ratio of 1 means that decoding, augmentation and copies cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.table import Options, Row, main, photographs
from benchmarks.timing import pairs, seconds
from pasture.dataset import read_train
from pasture.folds import held_out_rows, training_rows
from pasture.verification import VerifiedDataset, verify
from search_spaces.catalogue import load_recipe
from trainables.compute.precision import autocast, best_device, gradient_scaler
from trainables.features.context import TrialContext
from trainables.images.image_cache import cached_views
from trainables.network.model import Batch
from trainables.network.tuning import set_tuning
from trainables.recipe.recipe import Recipe
from trainables.training.losses import Truth, loss
from trainables.training.nets import create_net, widths
from trainables.training.optimizer import create_optimizer
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

RECIPE = {
    "view.size": 128,
    "backbone.tuning": "full",
    "augment.strength": "medium",
    "validation.splitter": "holdout",
    "schedule.batch_size": 16,
    "schedule.epochs": 1000,
}
TINY = {"view.size": 32, "backbone": {"name": "test_efficientnet", "weights": "none"}}


def measure(options: Options) -> Iterator[Row]:
    """One row."""
    images, repeats = (12, 1) if options.quick else (96, 5)
    recipe = load_recipe("frozen_mlp").with_overrides(RECIPE | (TINY if options.quick else {}))
    device = best_device()
    with photographs(options, images, width=400, height=200) as data:
        dataset = verify(read_train(data))
        trial = Trial("fine-tuning", recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, device)))
        layouts = (torch.contiguous_format, torch.channels_last)
        limits = [_limit(recipe, dataset, device, layout) for layout in layouts]
        fastest = min(limits, key=lambda limit: min(seconds(limit)[0] for _ in range(2)))
        told = pairs(lambda: _synchronised(trial.step, device), lambda: _synchronised(fastest, device), repeats)
    views = 2 * len(dataset)  # the halves of all photographs, trained on or held out
    yield Row(
        f"fine-tuning epoch, {recipe.backbone.name} at {recipe.view.size} pixels on {device.type}",
        f"{views / told.our_seconds:,.0f} views/s",
        f"{views / told.their_seconds:,.0f} views/s (forward + backward + step alone)",
        told.ratio,
        "fine_tuning",
        at_least=0.9,
    )


def _synchronised(do: Callable[[], object], device: torch.device) -> None:
    do()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _limit(
    recipe: Recipe, dataset: VerifiedDataset, device: torch.device, layout: torch.memory_format
) -> Callable[[], None]:
    """An epoch's arithmetic on resident tensors."""
    v = recipe.validation
    folds = v.assign(dataset)
    rows, held = training_rows(folds, 0), held_out_rows(folds, 0)
    net = create_net(recipe, widths(recipe)).to(device).to(memory_format=layout)
    assert net.backbone is not None
    set_tuning(net.backbone, recipe.backbone, "full")
    optimizer = create_optimizer(recipe.optimizer, recipe.stages[0], net)
    scaler = gradient_scaler(device, recipe.optimizer.precision)
    views = torch.from_numpy(np.array(cached_views(dataset, recipe.view))).to(device)
    grams = torch.tensor(dataset.targets, dtype=torch.float32, device=device)
    net.codec.fit(grams[rows])
    batches = [
        (Batch(views[chosen]), Truth(grams[chosen], torch.ones(len(chosen), device=device)))
        for chosen in np.array_split(rows, math.ceil(len(rows) / recipe.schedule.batch_size))
    ]
    unseen = Batch(views[held])

    def epoch() -> None:
        net.train()
        for batch, truth in batches:
            optimizer.zero_grad(set_to_none=True)
            with autocast(device, recipe.optimizer.precision):
                encoded = net(batch)
            value = loss(recipe.loss, net.codec, encoded.float(), truth)
            scaler.scale(value).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
        net.eval()
        with torch.inference_mode(), autocast(device, recipe.optimizer.precision):
            net.grams(unseen).cpu()

    return epoch


if __name__ == "__main__":
    main(measure, __doc__ or "")
