"""What trials request from Ray, recipe by recipe: the `resources` of a space file.

    resources:
      - {gpus: 1, cpus: 8, when: {backbone.name: [vit_large_patch14_dinov2, vit_base_patch14_dinov2]}}
      - {gpus: 4, gpus_per_fold: 2, when: {backbone.name: vit_giant_patch14_dinov2}}
      - {gpus: 0.25, when: {backbone.tuning: frozen}}

The first rule whose conditions hold applies. Amounts that it does not name, and recipes that no rule applies to, use
the command line's (--cpus-per-trial, --gpus-per-trial, --gpus-per-fold).
"""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.conditions import Conditions


class Request(NamedTuple):
    """What a trial requests.

    Attributes:
        resources: Ray's names of resources to their amounts, for the whole trial.
        gpus_per_fold: how many of its GPUs train one fold together.
    """

    resources: dict[str, float]
    gpus_per_fold: int = 1


class Rule(BaseModel):
    """What trials of some recipes request; None for the command line's amount."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    cpus: float | None = Field(None, ge=0)
    gpus: float | None = Field(None, ge=0)
    gpus_per_fold: int | None = Field(None, ge=1)
    when: Conditions = {}

    @model_validator(mode="after")
    def _amount(self) -> Self:
        if self.model_fields_set == {"when"}:
            raise ValueError("expected `cpus`, `gpus` or `gpus_per_fold`, and optionally `when`")
        return self
