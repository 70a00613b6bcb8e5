"""Whether predictions are out-of-fold predictions, in grams, of the images and targets that a file names.

Every rule compares the file as it is with other readings of the same numbers (other columns, other rows, another
scale), and refuses only where another reading is clearly better, or where the file is no better than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.targets import TARGETS, WEIGHTS, Array, balance_gap

CLEARLY: Final = 3.0
"""Standard errors by which another reading must fit better."""
TOO_GOOD: Final = 0.999
"""R2 above which predictions are a copy of the truth: no model comes near it on images it was not trained on."""
SHUFFLES: Final = 999
CHANCE: Final = 0.01
_BALANCED: Final = 0.01
"""Columns in their right order keep the balance this many times better than in a wrong one."""
_GAP_G: Final = 0.1
_LARGEST_EXPONENT: Final = 50.0
_SCALES: Final[dict[str, Callable[[Array], Array]]] = {
    "log(1 + grams)": np.expm1,
    "log(grams)": np.exp,
    "sqrt(grams)": np.square,
}
"""Scales on which models are trained, and how to undo them."""


def check_columns(source: str, truth: Array, predictions: Array) -> None:
    """Refuse predictions whose columns are in another order than their names.

    Either the mass balance is broken (by more than 0.1 g on average) and holds 100 times better in another order of the
    columns, or the score in another order is higher by more than 3 standard errors over images. (The balance alone is
    not enough: it holds as well with Green and Clover exchanged, and not every model keeps it.)

    Args:
        source: for the message.
        truth: (n, 5) in grams.
        predictions: (n, 5) in grams, of the same images.

    Raises:
        InputError: naming the order that fits.
    """
    gap = float(balance_gap(predictions).mean())
    orders = [list(order) for order in permutations(range(len(TARGETS)))]
    best = min(orders, key=lambda order: float(balance_gap(predictions[:, order]).mean()))
    if gap > _GAP_G and float(balance_gap(predictions[:, best]).mean()) < _BALANCED * gap:
        raise InputError(
            f"{source}: the columns are in another order: as they are named they break the mass balance by {gap:.2f} g "
            f"on average; {_likeness(best)}"
        )
    cost = WEIGHTS[:, None] * (truth[:, :, None] - predictions[:, None, :]) ** 2  # (n, target, column)
    order = linear_sum_assignment(cost.sum(axis=0))[1]
    targets = np.arange(len(TARGETS))
    if _clearly_positive((cost[:, targets, targets] - cost[:, targets, order]).sum(axis=1)):
        scores = [weighted_r2(truth, predictions[:, columns]) for columns in (targets, order)]
        raise InputError(
            f"{source}: the columns are in another order: as they are named they score {scores[0]:.3f}, otherwise "
            f"{scores[1]:.3f}; {_likeness(order.tolist())}"
        )


def check_rows(
    source: str, truth: Mapping[str, Array], ids: Sequence[str], predictions: Array, orders: Mapping[str, Sequence[str]]
) -> None:
    """Refuse predictions whose rows belong to other images than their ids.

    Either they fit no better than the same rows in random order (not better than 99 % of 999 shuffles, by the weighted
    inner product with the truth, the only part of the score that depends on the order), or they fit better by more than
    3 standard errors over images in one of the orders that a mistake would cause.

    Args:
        source: for the message.
        truth: five weights in grams by image id.
        ids: n image ids, in the order of the file.
        predictions: (n, 5) in grams.
        orders: name and ids of the orders that a file may have had.

    Raises:
        InputError: naming the order that fits, where one does.
    """
    expected = np.stack([truth[i] for i in ids])
    shifted = {"one row further up": [*ids[1:], ids[0]], "one row further down": [ids[-1], *ids[:-1]]}
    for name, other in {**orders, "the reverse order": ids[::-1], **shifted}.items():
        if sorted(other) != sorted(ids):
            continue
        loss = [((predictions - y) ** 2 @ WEIGHTS) for y in (expected, np.stack([truth[i] for i in other]))]
        if _clearly_positive(loss[0] - loss[1]):
            raise InputError(f"{source}: its rows belong to other images than their ids; they fit {name}")
    inner = (expected * WEIGHTS) @ predictions.T  # (truth, row)
    rows = np.arange(len(ids))
    rng = np.random.default_rng(0)
    shuffled = [inner[rows, rng.permutation(rows)].sum() for _ in range(SHUFFLES)]
    if (1 + np.sum(np.array(shuffled) >= inner.trace())) / (SHUFFLES + 1) > CHANCE:
        raise InputError(
            f"{source}: its rows fit the truth no better than in random order (R2 "
            f"{weighted_r2(expected, predictions):.3f}): they belong to other images than their ids, or predict nothing"
        )


def check_scale(source: str, truth: Array, predictions: Array) -> None:
    """Refuse predictions that are not in grams, or that are the truth itself.

    Predictions are on a scale such as log(1 + grams) if they score better by more than 3 standard errors over images
    once that scale is undone.

    Args:
        source: for the message.
        truth: (n, 5) in grams.
        predictions: (n, 5), of the same images.

    Raises:
        InputError: naming the scale that fits.
    """
    score = weighted_r2(truth, predictions)
    if score > TOO_GOOD:
        raise InputError(
            f"{source}: R2 {score:.6f}: these are the true weights, not predictions; give out-of-fold predictions"
        )
    in_grams = {scale: undo(predictions.clip(max=_LARGEST_EXPONENT)) for scale, undo in _SCALES.items()}
    scale, grams = max(in_grams.items(), key=lambda reading: weighted_r2(truth, reading[1]))
    loss, other_loss = ((p - truth) ** 2 @ WEIGHTS for p in (predictions, grams))
    if _clearly_positive(loss - other_loss):
        raise InputError(
            f"{source}: its predictions are not in grams but look like {scale}: they score {score:.3f} as they are, "
            f"{weighted_r2(truth, grams):.3f} in grams; convert them first"
        )


def _clearly_positive(differences: Array) -> bool:
    """Whether the sum of (n,) differences is above 0 by more than 3 standard errors."""
    total, n = float(differences.sum()), len(differences)
    return n > 1 and total > CLEARLY * float(np.sqrt(n * differences.var(ddof=1))) and total > 0


def _likeness(order: Sequence[int]) -> str:
    """Which columns look like which others, where target t fits column `order[t]`."""
    pairs = [(TARGETS[column], TARGETS[target]) for target, column in enumerate(order) if target != column]
    return ", ".join(f"{named} looks like {target}" for named, target in pairs)
