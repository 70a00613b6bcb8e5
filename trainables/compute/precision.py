"""The device to compute on, and the precision of its matrix products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from trainables.compute.allocator import keep_freed_memory
from trainables.recipe.sections import Precision


def best_device(gpu: bool = True) -> torch.device:
    """The first visible GPU; without one, or if `gpu` is false, the CPU.

    On the CPU, this process then keeps the memory that it frees.
    """
    if gpu and torch.cuda.is_available():
        return torch.device("cuda")
    keep_freed_memory()
    return torch.device("cpu")


def all_devices() -> list[torch.device]:
    """Every visible GPU; without one, the CPU."""
    if torch.cuda.is_available() and torch.cuda.device_count() > 1:
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [best_device()]


def arithmetic(device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """Data type of matrix products."""
    if device.type != "cuda" or precision == "float32":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[object]:
    """Mixed precision on a GPU where the recipe allows it; float32 otherwise."""
    dtype = arithmetic(device, precision)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def gradient_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Loss scaling for float16, whose gradients underflow without it; does nothing for bfloat16 and float32."""
    return torch.amp.GradScaler(device.type, enabled=arithmetic(device, precision) == torch.float16)
