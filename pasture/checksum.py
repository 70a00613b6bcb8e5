"""SHA-256 checksums, and the two ways a file carries one: on a first line, or as the last field of a JSON object.

They show damage where the format itself would not: YAML, checkpoints, records of trials. Parquet files have checksums
of their own (`pasture.parquet`), and safetensors files keep theirs in their metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

FIELD: Final = "sha256"
"""Name of the field that holds the checksum in JSON objects and in the metadata of safetensors files."""


def checksum(*parts: bytes | memoryview | str) -> str:
    """SHA-256 of some parts as 64 hexadecimal digits. The length of each part counts: "ab", "c" is not "a", "bc"."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()


def add_checksum(content: bytes) -> bytes:
    """`content` below a line that holds its checksum. In YAML that line is a comment."""
    return _line(content) + content


def remove_checksum(content: bytes) -> bytes:
    """The content that was passed to `add_checksum`.

    Raises:
        ValueError: the content does not match its checksum.
    """
    line, newline, rest = content.partition(b"\n")
    if line + newline != _line(rest):
        raise ValueError("the content does not match the checksum on its first line")
    return rest


def json_with_checksum(content: Mapping[str, Any]) -> bytes:
    """A non-empty JSON object with its checksum as the last field."""
    text = json.dumps(content)
    return f'{text[:-1]}, "{FIELD}": "{checksum(text)}"}}'.encode()


def read_json_with_checksum(content: bytes) -> dict[str, Any]:
    """The object that was passed to `json_with_checksum`.

    Raises:
        ValueError: not a JSON object, or it does not match its checksum.
    """
    result = json.loads(content)
    if not isinstance(result, dict):
        raise ValueError("not a JSON object")
    if result.pop(FIELD, None) != checksum(json.dumps(result)):
        raise ValueError(f"its content does not match its {FIELD}")
    return result


def _line(content: bytes) -> bytes:
    return f"# {FIELD} {checksum(content)}\n".encode()
