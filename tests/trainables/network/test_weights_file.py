from __future__ import annotations

import pytest
import torch

from pasture.errors import InputError
from trainables.network.weights_file import pack, unpack

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.tensor(3, dtype=torch.int64),
    "c": torch.ones(2, dtype=torch.bfloat16),
    "none": torch.zeros(0),
}
TAGS = {"recipe_hash": "abc", "fold": "0"}


def test_round_trip() -> None:
    tensors = unpack(pack(TENSORS, TAGS), "file")
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in tensors.items())
    assert unpack(pack({}, {}), "file") == {}


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    content = pack(TENSORS, TAGS)
    padding = {i for i in range(len(content)) if content[i : i + 1] == b" "}  # of the header, before the tensors
    for i in set(range(len(content))) - padding:
        damaged = content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]
        with pytest.raises(InputError, match="file: damaged weights") as caught:
            unpack(damaged, "file")
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match="file: damaged weights"):
            unpack(content[:i], "file")


def test_a_file_without_its_digest_is_not_believed() -> None:
    from safetensors.torch import save

    with pytest.raises(InputError, match="file: damaged weights"):
        unpack(save(TENSORS, TAGS), "file")
