"""A digest in a file's first line, so that damage is noticed where the format itself would not: YAML, checkpoints."""

from __future__ import annotations

import hashlib


def seal(content: bytes) -> bytes:
    """The content under a line that holds its digest; in YAML that line is a comment."""
    return _line(content) + content


def unseal(content: bytes) -> bytes:
    """What was sealed.

    Raises:
        ValueError: it is not what was sealed.
    """
    line, newline, rest = content.partition(b"\n")
    if line + newline != _line(rest):
        raise ValueError("its content is not what its first line says")
    return rest


def _line(content: bytes) -> bytes:
    return f"# sha256 {hashlib.sha256(content).hexdigest()}\n".encode()
