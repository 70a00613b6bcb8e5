"""Gain by test-time augmentation: scores with 1, 2, 4 and 8 elements of D4."""

from __future__ import annotations

from typing import Final

from pasture.metric import weighted_r2
from pasture.targets import Array
from trainables.images import d4

ELEMENTS: Final = {
    "1": (d4.IDENTITY,),
    "2": (d4.IDENTITY, d4.HORIZONTAL),
    "4": d4.FLIPS,
    "8": d4.ALL,
}
"""Number of elements to the elements: the photograph as it is, its mirror image, all flips, all of D4."""


def tta_worth(truth: Array, predictions: Array) -> dict[str, float]:
    """R2 of the mean over a number of elements; that of the identity alone where there are no others.

    Args:
        truth: (n, 5) in grams.
        predictions: (n, e, 5) in grams, e being 1 or 8.
    """
    available = predictions.shape[1]
    return {
        name: weighted_r2(truth, predictions[:, elements].mean(axis=1))
        for name, elements in ELEMENTS.items()
        if max(elements) < available
    }
