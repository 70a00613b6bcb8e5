"""Retrying with smaller batches after a GPU runs out of memory."""

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
    """Call `work(size)`, and after each CUDA out-of-memory error again with half the size.

    Args:
        size: number of images per call to start with.
        work: called with the size; starts from scratch on every call.
        anywhere: takes whether this process ran out of memory and returns whether any process that works on the same
            batch did; then all of them halve the size.

    Returns:
        The result, and the size with which it was computed.

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
                "a single image does not fit into the GPU's memory; choose a smaller view.size or backbone, set "
                "backbone.gradient_checkpointing, or give each trial more of a GPU (--gpus-per-trial)"
            )
        # Outside the handler, whose traceback keeps every tensor of the failed attempt alive.
        size //= 2
        gc.collect()
        torch.cuda.empty_cache()
