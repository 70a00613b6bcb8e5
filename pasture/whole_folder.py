"""A new folder that appears only when it is complete."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pasture.errors import InputError


@contextmanager
def complete_or_absent(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its name if the body succeeds and vanishes if it fails.

    Raises:
        InputError: `out` is not empty or cannot be written.
    """
    out = out.resolve()
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}.partial")
    try:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"{out} exists: a new or empty folder expected; choose another or remove it")
        partial.mkdir(parents=True)
        yield partial
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}): choose a folder that you may write") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
