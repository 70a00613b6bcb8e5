"""Errors after which a process cannot use its GPU any more."""

from __future__ import annotations

from typing import Final

import torch

_SIGNS: Final = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "CUSOLVER_STATUS_")
_NOT_FATAL: Final = ("out of memory", "ALLOC_FAILED")


class DeviceLostError(Exception):
    """A CUDA error that every later CUDA call of the process repeats; the process has to end."""


def is_device_lost(error: BaseException) -> bool:
    """Whether an error has left the GPU unusable for this process.

    After an illegal memory access or a device-side assertion, CUDA returns the same error to every later call of the
    process (CUDA runtime API, `cudaErrorIllegalAddress`, `cudaErrorAssert`). Not every CUDA error is of that kind, but
    torch reports most of them asynchronously and by message only, and a new process costs seconds. Running out of
    memory leaves the device usable.
    """
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return False
    text = str(error)
    if any(words in text for words in _NOT_FATAL):
        return False
    return isinstance(error, torch.AcceleratorError) or any(sign in text for sign in _SIGNS)
