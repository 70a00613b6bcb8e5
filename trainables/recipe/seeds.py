"""Seeds that depend on the place in the training only, so that a restored trial draws the same random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(*parts: int) -> int:
    """One 32-bit seed from several numbers (recipe seed, fold, epoch, image, ...)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


@contextmanager
def torch_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block under a seed of torch's generators and put their former state back."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
