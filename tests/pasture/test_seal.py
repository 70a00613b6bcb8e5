from __future__ import annotations

import pytest
import yaml

from pasture.seal import seal, unseal


@pytest.mark.parametrize("content", [b"", b"a: 1\n", b"\x00\n\xff", b"# sha256 0\n"])
def test_what_is_sealed_is_unsealed(content: bytes) -> None:
    assert unseal(seal(content)) == content


def test_the_seal_is_a_comment_in_yaml() -> None:
    assert yaml.safe_load(seal(b"a: 1\n")) == {"a": 1}


def test_any_change_of_one_byte_is_noticed() -> None:
    sealed = seal(b"trials: 24\n")
    for i in range(len(sealed)):
        with pytest.raises(ValueError, match="not what its first line says"):
            unseal(sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :])
        with pytest.raises(ValueError, match="not what its first line says"):
            unseal(sealed[:i])
