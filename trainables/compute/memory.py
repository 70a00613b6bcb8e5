"""Going on with smaller batches when a GPU's memory does not suffice."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from pasture.errors import JobError

_Result = TypeVar("_Result")


def with_smaller_batches(
    size: int, work: Callable[[int], _Result], anywhere: Callable[[bool], bool] = bool
) -> tuple[_Result, int]:
    """Do `work(size)`, and again with half the size after each CUDA out of memory.

    Args:
        size: images at a time to begin with.
        work: must start over each time.
        anywhere: whether something is so in any of the processes that work together; all of them halve.

    Returns:
        The result and the size that fitted.

    Raises:
        JobError: not even one image fits.
    """
    while True:
        try:
            result, failed = work(size), False
        except torch.OutOfMemoryError:
            failed = True
        if not anywhere(failed):
            return result, size
        if size <= 1:
            raise JobError(
                "the GPU's memory does not suffice for a single image; choose a smaller view.size or backbone, set "
                "backbone.gradient_checkpointing, or give each trial more of a GPU (--gpus-per-trial)"
            )
        # Outside the handler, whose traceback keeps every tensor of the failed attempt alive.
        size //= 2
        gc.collect()
        torch.cuda.empty_cache()
