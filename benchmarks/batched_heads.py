"""Training the heads of all folds one after another, as forage does, against one batched program (vmap).

Both take the same number of steps of the same size. The ratio is how many times as long the batched program takes:
where it is above 1, that is not worth its code.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from benchmarks.table import Options, Row, main
from benchmarks.timing import pairs
from trainables.compute.precision import best_device
from trainables.network.heads import MlpHead
from trainables.recipe.sections import Head

FOLDS, ROWS, BATCH = 5, 286, 32


def measure(options: Options) -> Iterator[Row]:
    """One row a width of features."""
    device = best_device()
    for features in (16,) if options.quick else (384, 1280, 2560):
        yield compare(features, device, steps=2 if options.quick else 30, repeats=1 if options.quick else 7)


def compare(features: int, device: torch.device, steps: int, repeats: int) -> Row:
    """One row: so many steps of every head."""
    heads = [MlpHead(Head(), features, 5).to(device) for _ in range(FOLDS)]
    x, y = torch.randn(FOLDS, ROWS, features, device=device), torch.randn(FOLDS, ROWS, 5, device=device)
    optimizers = [torch.optim.AdamW(head.parameters(), fused=True) for head in heads]
    stacked = {name: p.detach().requires_grad_() for name, p in stack_module_state(heads)[0].items()}
    together = torch.optim.AdamW(stacked.values(), fused=True)
    frame = copy.deepcopy(heads[0]).to("meta")
    forward = torch.vmap(lambda p, part: functional_call(frame, p, (part,)), randomness="different")

    def one_after_another() -> None:
        for head, optimizer, inputs, truth in zip(heads, optimizers, x, y, strict=True):
            for _ in range(steps):
                rows = torch.randint(ROWS, (BATCH,), device=device)
                _step(optimizer, nn.functional.smooth_l1_loss(head(inputs[rows]), truth[rows]))
        _wait(device)

    def batched() -> None:
        folds = torch.arange(FOLDS, device=device)[:, None]
        for _ in range(steps):
            rows = torch.randint(ROWS, (FOLDS, BATCH), device=device)
            losses = nn.functional.smooth_l1_loss(forward(stacked, x[folds, rows]), y[folds, rows], reduction="none")
            _step(together, losses.mean(dim=(1, 2)).sum())
        _wait(device)

    told = pairs(one_after_another, batched, repeats)
    ours, theirs = (1e3 * taken / steps for taken in (told.our_seconds, told.their_seconds))
    return Row(
        f"{FOLDS} heads on {features} features, on {device.type}",
        f"{ours:.1f} ms a step of all",
        f"{theirs:.1f} ms (batched)",
        told.ratio,
        "batched_heads",
    )


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main(measure, __doc__ or "")
