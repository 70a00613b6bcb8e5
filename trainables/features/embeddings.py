"""Embeddings from another tool, stored by name; a recipe uses them as `backbone.name=bank:<name>`."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pasture.errors import InputError, read_error
from pasture.files import Folder
from trainables.images.array_cache import cache_root

_SUFFIX: Final = ".safetensors"


class Embeddings(NamedTuple):
    """Embeddings of photographs, as `forage features import` stored them.

    Attributes:
        ids: n image ids.
        features: (n, e, views, d) float16; e is 8 (the elements of D4) or 1, which stands for all of them.
    """

    ids: list[str]
    features: np.ndarray

    def rows(self, ids: Sequence[str], name: str) -> np.ndarray:
        """(len(ids), 8, views, d) embeddings of some photographs.

        Raises:
            InputError: one of them has none.
        """
        row = {image: i for i, image in enumerate(self.ids)}
        if missing := [image for image in ids if image not in row]:
            raise InputError(
                f"bank:{name} has no features of {len(missing)} image(s), the first is {missing[0]}; import a file "
                "that has all photographs, labelled and test, under the same name"
            )
        chosen = self.features[[row[image] for image in ids]]
        return np.broadcast_to(chosen, (len(chosen), 8, *chosen.shape[2:]))

    def digest(self, name: str, ids: Sequence[str]) -> str:
        """Hash of the bank's name and of the embeddings of some photographs, in any order.

        Raises:
            InputError: one of them has no embedding.
        """
        ordered = sorted(ids)
        total = hashlib.sha256(json.dumps([name, self.features.shape[1:], ordered]).encode())
        total.update(np.ascontiguousarray(self.rows(ordered, name)).tobytes())
        return total.hexdigest()[:32]


def folder() -> Folder:
    """Folder of the embeddings on this node."""
    return Folder.at(cache_root() / "embeddings")


def names() -> list[str]:
    """Names of all stored embeddings."""
    return [name.removesuffix(_SUFFIX) for name in folder().names(_SUFFIX)]


def write(name: str, ids: Sequence[str], features: np.ndarray) -> None:
    """Store (n, d), (n, views, d) or (n, 8, views, d) embeddings under a name, replacing what has that name.

    Raises:
        InputError: the name, the shape or a value is not allowed.
    """
    file = _file(name)
    if not np.issubdtype(features.dtype, np.number) or features.ndim not in (2, 3, 4):
        raise InputError(
            f"embeddings of shape {features.shape} and type {features.dtype}: expected numbers (images, features), "
            "(images, views, features) or (images, 8, views, features)"
        )
    if features.ndim == 4 and features.shape[1] != 8:
        raise InputError(f"embeddings of shape {features.shape}: the second axis is not the 8 elements of D4")
    if not len(ids) == len(features) > 0:
        raise InputError(f"{len(ids)} ids for {len(features)} rows of embeddings; give one id a row, in their order")
    image, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise InputError(f"image id {image!r} appears {count} times; give each photograph once")
    shape = {2: (-1, 1, 1, *features.shape[1:]), 3: (-1, 1, *features.shape[1:]), 4: features.shape}[features.ndim]
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(features.reshape(shape), dtype=np.float16)
    if not np.isfinite(halves).all():
        row = int(np.argwhere(~np.isfinite(halves))[0][0])
        raise InputError(f"embeddings of {ids[row]}: a value is not finite, or above 65504; scale them")
    folder().write(file, save({"features": halves}, {"ids": json.dumps(list(ids))}))


def read(name: str) -> Embeddings:
    """The embeddings stored under a name.

    Raises:
        InputError: there are none of this name, or their file is damaged.
    """
    path = Path(folder().file(_file(name)))
    if not path.is_file():
        near = f"there are {', '.join(names())}" if names() else "none was imported"
        raise InputError(f"backbone.name=bank:{name}: no such bank ({near}); run `forage features import` first")
    return _load(path, path.stat().st_mtime_ns)


def publish(name: str, banks: Folder) -> None:
    """Copy embeddings into a folder that every node of a cluster can read."""
    read(name)
    banks.write(_file(name), folder().read(_file(name)))


def adopt(name: str, banks: Folder) -> None:
    """Copy embeddings from such a folder if this node lacks them.

    Raises:
        InputError: this node has other embeddings of the same name.
    """
    file = _file(name)
    if not folder().exists(file):
        folder().write(file, banks.read(file))
    elif folder().read(file) != banks.read(file):
        raise InputError(
            f"bank:{name} is not what the run was started with; import that again, or start a new run with --name"
        )


def _file(name: str) -> str:
    # A recipe may come from an untrusted file: its bank must not name a path outside the folder.
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InputError(f"bank name {name!r}: expected letters, digits, dots, dashes and underscores")
    return f"{name}{_SUFFIX}"


@lru_cache(maxsize=2)
def _load(path: Path, modified: int) -> Embeddings:
    try:
        with safe_open(path, "np") as content:
            return Embeddings(json.loads(content.metadata()["ids"]), content.get_tensor("features"))
    except OSError as error:
        raise read_error(path, error) from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); import the bank again") from None
