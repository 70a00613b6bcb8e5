from __future__ import annotations

import json

import pytest
import yaml

from pasture.checksum import add_checksum, checksum, json_with_checksum, read_json_with_checksum, remove_checksum


@pytest.mark.parametrize("content", [b"", b"a: 1\n", b"\x00\n\xff", b"# sha256 0\n"])
def test_content_survives_adding_and_removing_a_checksum(content: bytes) -> None:
    assert remove_checksum(add_checksum(content)) == content


def test_the_checksum_is_a_comment_in_yaml() -> None:
    assert yaml.safe_load(add_checksum(b"a: 1\n")) == {"a": 1}


def test_any_change_of_one_byte_is_noticed() -> None:
    written = add_checksum(b"trials: 24\n")
    for i in range(len(written)):
        for damaged in (written[:i] + bytes([written[i] ^ 1]) + written[i + 1 :], written[:i]):
            with pytest.raises(ValueError, match="does not match the checksum on its first line"):
                remove_checksum(damaged)


def test_the_boundaries_of_parts_count() -> None:
    assert len({checksum("ab", "c"), checksum("a", "bc"), checksum("abc"), checksum("abc", "")}) == 4
    assert checksum("ä") == checksum("ä".encode())


def test_a_json_object_keeps_its_fields_and_is_still_json() -> None:
    content = {"name": "t0001", "curve": [{"score": 0.1}, {"score": None}]}
    written = json_with_checksum(content)
    assert list(json.loads(written)) == ["name", "curve", "sha256"]
    assert read_json_with_checksum(written) == content


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b.replace(b"0.5", b"0.6"),
        lambda b: b[:-20],
        lambda b: b'{"score": 0.5}',
        lambda b: b"[1]",
        lambda b: b"",
    ],
    ids=["changed", "cut", "no checksum", "a list", "empty"],
)
def test_a_damaged_json_object_is_refused(damage: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_json_with_checksum(damage(json_with_checksum({"score": 0.5})))  # type: ignore[operator]
