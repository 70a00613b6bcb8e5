"""The names under which all trackers show what a trial reports, live and in an export."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from trainables.recipe.recipe import Recipe
from tune.records.ledger import Record

SCORE: Final = "val/score"

_NAMES: Final = {
    "score": SCORE,
    "epoch_score": "val/epoch_score",
    "best_epoch": "val/best_epoch",
    "r2_Dry_Green_g": "val/r2_green",
    "r2_Dry_Dead_g": "val/r2_dead",
    "r2_Dry_Clover_g": "val/r2_clover",
    "r2_GDM_g": "val/r2_gdm",
    "r2_Dry_Total_g": "val/r2_total",
    "train_loss": "train/loss",
    "head_lr": "train/lr",
    "backbone_lr": "train/lr_backbone",
    "micro_batch": "train/micro_batch",
    "seconds": "time/seconds",
    "images_per_second": "time/images_per_second",
}
"""Fields of a report (`trainables.trial.trial.Trial.step`) and their names. Other fields are not tracked."""

METRICS: Final = tuple(_NAMES.values())
"""All names, in the order of columns."""


def metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a report by their tracked names; the R2 of a constant target is NaN and left out."""
    known = {name: float(report[field]) for field, name in _NAMES.items() if report.get(field) is not None}
    return {name: value for name, value in known.items() if math.isfinite(value)}


def fields(record: Record) -> dict[str, Any]:
    """The recipe of a trial by dotted field, lists as JSON; of a trial without a recipe what was drawn."""
    flat = Recipe.parse(record.recipe).flat() if record.recipe else record.params
    return {field: json.dumps(value) if isinstance(value, list) else value for field, value in flat.items()}


def facts(record: Record) -> dict[str, str]:
    """Further facts about a trial: its status, its origin and, where it failed, its error."""
    return {"status": record.status, "origin": record.origin, **({"error": record.error} if record.error else {})}
