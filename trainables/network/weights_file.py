"""Weights as safetensors files with a checksum, without which a flipped bit would load as another model."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor

from pasture.checksum import FIELD, checksum
from pasture.errors import InputError


def pack(tensors: Mapping[str, Tensor], tags: Mapping[str, str]) -> bytes:
    """Content of a file, with tags in its metadata."""
    return bytes(save(dict(tensors), {**tags, FIELD: _checksum(tensors, tags)}))


def unpack(content: bytes, source: str) -> dict[str, Tensor]:
    """Tensors of what `pack` made.

    Raises:
        InputError: damaged, naming the source.
    """
    try:
        tensors: dict[str, Tensor] = load(content)
        length = int.from_bytes(content[:8], "little")
        tags = json.loads(content[8 : 8 + length])["__metadata__"]
        expected = tags.pop(FIELD)
        whole = _checksum(tensors, tags) == expected
    except Exception as error:  # damaged bytes raise whatever safetensors and json stumble over
        raise InputError(f"{source}: damaged weights ({' '.join(str(error).split())[:200]})") from None
    if not whole:
        raise InputError(f"{source}: damaged weights (their sha256 is not what was written)")
    return tensors


def _checksum(tensors: Mapping[str, Tensor], tags: Mapping[str, str]) -> str:
    parts: list[str | memoryview] = [json.dumps(dict(tags), sort_keys=True)]
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        parts.append(f"{name} {tensor.dtype} {list(tensor.shape)}")
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return checksum(*parts)
