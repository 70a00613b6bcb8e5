"""The five dry weights of a photograph, their weights in the metric and the mass balance between them.

Arrays of targets are always (..., 5), in grams, in the order of `TARGETS`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TARGETS: Final = ("Dry_Green_g", "Dry_Dead_g", "Dry_Clover_g", "GDM_g", "Dry_Total_g")
GREEN, DEAD, CLOVER, GDM, TOTAL = range(5)

WEIGHTS: Final[Array] = np.array([0.1, 0.1, 0.1, 0.2, 0.5])
"""Weight of each target in the competition metric."""

BALANCE: Final[Array] = np.array(
    [
        [1.0, 0.0, 0.0],  # Green
        [0.0, 1.0, 0.0],  # Dead
        [0.0, 0.0, 1.0],  # Clover
        [1.0, 0.0, 1.0],  # GDM   = Green + Clover
        [1.0, 1.0, 1.0],  # Total = Green + Dead + Clover
    ]
)
"""(5, 3): the five targets as sums of the three components green, dead and clover."""

COMPONENTS: Final = (GREEN, DEAD, CLOVER)


def from_components(components: Array) -> Array:
    """Five targets (..., 5) in grams from green, dead and clover (..., 3) in grams."""
    return np.asarray(components, dtype=np.float64) @ BALANCE.T


def balance_gap(targets: Array) -> Array:
    """Largest violation of the two sums for each row of `targets` (..., 5), in grams, shape (...)."""
    expected = from_components(targets[..., list(COMPONENTS)])
    return np.asarray(np.abs(targets - expected).max(axis=-1))
