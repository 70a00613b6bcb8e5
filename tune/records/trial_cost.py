"""Seconds that a trial is likely to take, from those that have ended."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from tune.records.ledger import Record


class TrialCost:
    """Predicts the seconds of a recipe: the median seconds per epoch of like trials, times its epochs.

    Alike are trials of the same backbone, backbone tuning, view size and kind of head; where there are none, those of
    the same tuning, size and kind of head, then of the same tuning and kind of head, then all.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[Any, ...], dict[str, float]] = {}

    def add(self, record: Record) -> None:
        """Learn from a trial that has ended, pruned or not; one without a finished epoch says nothing."""
        if not record.curve:
            return
        seconds = sum(report["seconds"] for report in record.curve) / len(record.curve)
        for kind in _kinds(record.recipe):
            self._seconds.setdefault(kind, {})[record.name] = seconds

    def predict(self, recipe: dict[str, Any], epochs: int) -> float:
        """Seconds of a whole trial; 0 as long as nothing is known.

        Args:
            recipe: as nested plain values.
            epochs: that it trains.
        """
        known = next((self._seconds[kind] for kind in _kinds(recipe) if kind in self._seconds), None)
        return epochs * median(known.values()) if known else 0.0


def _kinds(recipe: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Properties that a trial shares with trials of similar cost, the most specific first."""
    backbone, head = recipe["backbone"], recipe["head"]["kind"]
    yield head, backbone["tuning"], recipe["view"]["size"], backbone["name"]
    yield head, backbone["tuning"], recipe["view"]["size"]
    yield head, backbone["tuning"]
    yield ()
