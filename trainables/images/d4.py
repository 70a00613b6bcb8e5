"""The dihedral group D4: the eight flips and rotations of a square picture.

Element e is a horizontal flip for e >= 4, followed by a rotation by 90 (e mod 4) degrees counter-clockwise. A view is
square; an element transforms each view, and views are not exchanged.
"""

from __future__ import annotations

from typing import Final

import torch

from trainables.recipe.sections import TtaName

IDENTITY: Final = 0
HORIZONTAL: Final = 4
VERTICAL: Final = 6
FLIPS: Final = (IDENTITY, 2, HORIZONTAL, VERTICAL)
"""The four elements that only flip: identity, both flips (a half turn), horizontal, vertical."""
ALL: Final = tuple(range(8))

_TTA: Final[dict[TtaName, tuple[int, ...]]] = {"none": (IDENTITY,), "flips": FLIPS, "d4": ALL}


def tta_elements(name: TtaName) -> tuple[int, ...]:
    """The elements that a kind of test-time augmentation averages."""
    return _TTA[name]


def apply(pictures: torch.Tensor, element: int) -> torch.Tensor:
    """Apply an element to pictures (..., S, S, channels); the result may share memory with the input."""
    if element >= HORIZONTAL:
        pictures = pictures.flip(-2)
    return torch.rot90(pictures, element % 4, dims=(-3, -2))


def inverse(element: int) -> int:
    """The element that undoes another. A flip followed by a rotation is its own inverse."""
    return element if element >= HORIZONTAL else (4 - element) % 4
