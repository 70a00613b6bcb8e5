"""Training the heads of all folds in one batched program (vmap) against fold after fold: is it worth its code?

    python benchmarks/batched_heads.py [--device cuda]

Prints how many times faster the batched program is, median of the repeats. On a CPU it is slower, and forage trains
fold after fold for that reason.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from trainables.heads import MlpHead
from trainables.sections import Head

FOLDS, ROWS, BATCH, STEPS = 5, 286, 32, 30


def compare(features: int, device: torch.device, repeats: int) -> float:
    """How many times faster the batched program takes the same number of steps as the loop."""
    heads = [MlpHead(Head(), features, 5).to(device) for _ in range(FOLDS)]
    x, y = torch.randn(FOLDS, ROWS, features, device=device), torch.randn(FOLDS, ROWS, 5, device=device)
    optimizers = [torch.optim.AdamW(head.parameters(), fused=True) for head in heads]
    stacked = {name: p.detach().requires_grad_() for name, p in stack_module_state(heads)[0].items()}  # type: ignore[arg-type]
    together = torch.optim.AdamW(stacked.values(), fused=True)
    frame = copy.deepcopy(heads[0]).to("meta")
    forward = torch.vmap(lambda p, part: functional_call(frame, p, (part,)), randomness="different")

    def loop() -> None:
        for head, optimizer, inputs, truth in zip(heads, optimizers, x, y, strict=True):
            for _ in range(STEPS):
                rows = torch.randint(ROWS, (BATCH,), device=device)
                _step(optimizer, nn.functional.smooth_l1_loss(head(inputs[rows]), truth[rows]))

    def batched() -> None:
        folds = torch.arange(FOLDS, device=device)[:, None]
        for _ in range(STEPS):
            rows = torch.randint(ROWS, (FOLDS, BATCH), device=device)
            losses = nn.functional.smooth_l1_loss(forward(stacked, x[folds, rows]), y[folds, rows], reduction="none")
            _step(together, losses.mean(dim=(1, 2)).sum())

    ratios = []
    for _ in range(repeats + 1):
        slow = _seconds(loop, device)
        ratios.append(slow / _seconds(batched, device))
    return statistics.median(ratios[1:])


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print a line a width of features."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for features in (384, 1280, 2560):
        ratio = compare(features, torch.device(arguments.device), arguments.repeats)
        print(f"{FOLDS} heads on {features} features: batched is {ratio:.2f} times as fast as one after another")


if __name__ == "__main__":
    main()
