"""What benchmarks/gpu.py runs in processes of their own: python -m benchmarks.gpu_child WORK DEVICE ..."""

from __future__ import annotations

import sys
import time

import torch

from trainables.compute.device_errors import is_device_lost
from trainables.compute.precision import autocast
from trainables.compute.ranks import Rendezvous, join
from trainables.images.views import view_count
from trainables.network.model import Batch, BiomassNet
from trainables.network.tuning import set_tuning
from trainables.recipe.recipe import Recipe
from trainables.training.nets import create_net, widths
from trainables.training.optimizer import create_optimizer


class Training:
    """Steps of a training on pictures that are on the device already.

    Args:
        recipe: its backbone is trained.
        device: where.
        batch: photographs in memory at a time.
    """

    def __init__(self, recipe: Recipe, device: torch.device, batch: int) -> None:
        self.recipe, self.device = recipe, device
        self.net: BiomassNet = create_net(recipe, widths(recipe)).to(device).train()
        assert self.net.backbone is not None
        set_tuning(self.net.backbone, recipe.backbone, recipe.backbone.tuning)
        self.optimizer = create_optimizer(recipe.optimizer, recipe.stages[0], self.net)
        self.pictures = self._draw(batch)

    def _draw(self, batch: int) -> Batch:
        size, views = self.recipe.view.size, view_count(self.recipe.view)
        generator = torch.Generator().manual_seed(0)
        shape = (batch, views, size, size, 3)
        return Batch(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(self.device))

    def step(self, size: int | None = None) -> None:
        """Forward, backward and a step of the optimiser on the first `size` photographs."""
        batch = Batch(self.pictures.views[:size])
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.recipe.optimizer.precision):
            encoded = self.net(batch)
        encoded.float().square().mean().backward()
        self.optimizer.step()


def seconds_of(training: Training, steps: int) -> float:
    """Wall time of some steps, after one that is not counted."""
    training.step()
    synchronize(training.device)
    start = time.perf_counter()
    for _ in range(steps):
        training.step()
    synchronize(training.device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def lose(device: torch.device) -> bool:
    """Cause an error that leaves the GPU unusable for this process; whether it is recognised."""
    try:
        if device.type == "cuda":
            torch.zeros(4, device=device)[torch.tensor([9], device=device)].sum().item()
            return False
        raise RuntimeError("CUDA error: device-side assert triggered")  # the stand-in
    except RuntimeError as error:
        return is_device_lost(error)


def main() -> int:
    """Do one piece of work; what it measures is printed."""
    work, device, *rest = sys.argv[1:]
    target = torch.device(device)
    if work == "lose":
        return 3 if lose(target) else 0
    if work == "rank":
        rank, size, port = map(int, rest)
        ranks = join(Rendezvous(rank, size, "127.0.0.1", port), target)
        print(float(ranks.sum(torch.full((1 << 20,), float(rank + 1), device=target)).mean()))
        return 0
    recipe, batch, steps = Recipe.from_yaml(rest[0]), int(rest[1]), int(rest[2])
    print(seconds_of(Training(recipe, target, batch), steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
