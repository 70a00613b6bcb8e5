"""The tabulated recipe that is nearest to a proposal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pasture.targets import Array
from search_spaces.parameter import Label, Parameter

_BACKBONE: Final = ("recipe", "backbone", "backbone.name")
_OTHER_BACKBONE: Final = 1e6


class Snap:
    """Finds recipes by their labels.

    The distance between two recipes is the sum over searched fields of the share of the range that lies between their
    values (of its logarithm, for log_uniform). Different options, and a field that one of them lacks, count 1. A
    recipe with another backbone, or made from another whole recipe, is further away than any with the same.

    Args:
        parameters: of the space.
        labels: of every tabulated recipe.
    """

    def __init__(self, parameters: Sequence[Parameter], labels: Sequence[Mapping[str, Label]]) -> None:
        self.parameters = [p for p in parameters if p.kind != "constant"]
        self.coordinates = np.stack([self._coordinates(each) for each in labels])
        self.numeric = np.array([p.kind != "choice" for p in self.parameters], dtype=bool)
        self.weights = np.array([_OTHER_BACKBONE if p.field in _BACKBONE else 1.0 for p in self.parameters])

    def nearest(self, labels: Mapping[str, Label], known: NDArray[np.bool_], used: NDArray[np.bool_]) -> int:
        """Number of the nearest recipe that is not used yet; of an equal one, used or not; of any, if all are used.

        Args:
            labels: of the proposal.
            known: (recipes,) whether each can be replayed.
            used: (recipes,) whether each was proposed before.
        """
        distance = np.where(known, self._distances(self._coordinates(labels)), np.inf)
        if distance.min() > 0 and (known & ~used).any():
            distance = np.where(used, np.inf, distance)
        return int(distance.argmin())

    def _distances(self, point: Array) -> Array:
        missing = np.isnan(self.coordinates) != np.isnan(point)
        apart = np.abs(np.nan_to_num(self.coordinates) - np.nan_to_num(point))
        apart = np.where(self.numeric, apart, apart > 0)
        return np.asarray(np.where(missing, 1.0, apart) @ self.weights)

    def _coordinates(self, labels: Mapping[str, Label]) -> Array:
        """(parameters,) position of each value in its range, or the number of its option; NaN where it is not drawn."""
        return np.array([_coordinate(p, labels[p.field]) if p.field in labels else np.nan for p in self.parameters])


def _coordinate(parameter: Parameter, label: Label) -> float:
    if parameter.kind == "choice":
        return float(list(parameter.options).index(label))
    low, high, value = float(parameter.low), float(parameter.high), float(label)  # type: ignore[arg-type]
    if parameter.kind == "log_uniform":
        low, high, value = np.log(low), np.log(high), np.log(value)
    return 0.0 if high == low else (value - low) / (high - low)
