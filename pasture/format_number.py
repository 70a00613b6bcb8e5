"""Format numbers: what a run directory or a blend folder that another version of forage wrote may be read as."""

from __future__ import annotations

from typing import Any

from pasture.errors import InputError


def take_format(content: dict[str, Any], known: int, source: str) -> None:
    """Remove `format` from the content of a file after checking that this version can read it.

    A format number rises when older versions of forage can no longer read what is written.

    Args:
        content: of the file.
        known: the newest format that this version reads.
        source: the file; the error begins with it.

    Raises:
        InputError: a newer format, or none.
    """
    found = content.pop("format", None)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(f"{source}: damaged, or of another version (format {found!r}, expected 1 to {known})")
    if found > known:
        raise InputError(
            f"{source}: format {found}, written by a newer forage; this one reads formats up to {known}: upgrade forage"
        )
