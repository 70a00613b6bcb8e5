"""Reading photographs: their pixels, and what a check of a data folder needs to know about them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pasture.errors import InputError, read_error


@dataclass(frozen=True)
class PictureFacts:
    """SHA-256 of a picture file and its size in pixels."""

    digest: bytes
    width: int
    height: int


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """The pixels of a photograph: (height, width, 3), RGB.

    Raises:
        InputError: the picture is missing, truncated or not a picture, naming it.
        StorageError: the disk fails.
    """
    return np.asarray(_decode(path, _read(path)).convert("RGB"))


def picture_facts(paths: Iterable[Path]) -> list[PictureFacts | InputError]:
    """Decode every picture, on all cores; the error where one is missing, truncated or not a picture.

    Raises:
        StorageError: the disk fails.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(_facts, paths))


def _facts(path: Path) -> PictureFacts | InputError:
    try:
        content = _read(path)
        picture = _decode(path, content)
    except InputError as error:
        return error
    return PictureFacts(hashlib.sha256(content).digest(), picture.width, picture.height)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture; image_path is relative to the data folder") from None
    except OSError as error:
        raise read_error(path, error) from None


def _decode(path: Path, content: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's message names the stream in memory, not the file.
        said = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path}: not a readable picture ({said}); replace the file or drop its rows") from None
    return picture
