"""The names of the methods, which of them is the default, and the options of greedy selection.

Imports nothing heavy: the command line reads it at every start.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pasture.errors import InputError
from pasture.validated import first_error

MethodName = Literal["uniform", "best-k", "shrunk", "greedy", "simplex", "per-target", "ridge"]
"""From the simplest to the most flexible."""

MethodChoice = Literal[MethodName, "auto"]
"""Values of `--method`."""

DEFAULT_METHOD: Final[MethodChoice] = "best-k"


class Options(BaseModel):
    """How to select. The defaults are plain greedy selection over all members.

    Raises:
        InputError: a value out of its range, naming the option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    steps: int = Field(200, ge=1)
    """Length of the greedy path, warm start included."""
    warm_start: int = Field(0, ge=0)
    """Number of first picks, which are the best members by their own score (Caruana et al. 2004, section 2.2)."""
    bags: int = Field(0, ge=0)
    """Number of random parts of the members whose selections are averaged (section 2.3); 0 for none."""
    bag_fraction: float = Field(0.5, ge=0, le=1)
    """Share of the members in each bag."""
    seed: int = 0
    """Draws the bags."""
    max_members: int | None = Field(None, ge=1)
    """Largest number of distinct members; None for no limit."""
    max_backbones: int | None = Field(None, ge=1)
    """Largest number of distinct backbones; None for no limit."""
    min_gain: float | None = None
    """End the path at a step that raises R2 by less than this; None to take all steps."""
    min_weight: float = Field(0.0, ge=0, le=1)
    """Drop members with less weight than this, and share their weight among the others."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(f"selection option {first_error(error)}") from None

    @property
    def limited(self) -> bool:
        """Whether members or backbones are limited."""
        return self.max_members is not None or self.max_backbones is not None


def check_options(method: MethodChoice, options: Options) -> None:
    """Refuse options that the method does not use.

    Raises:
        InputError: naming the option.
    """
    if method in ("greedy", "auto") or options.limited:
        return
    given = options.model_dump(exclude_defaults=True)
    for option in ("steps", "warm_start", "bags", "min_gain"):
        if option in given:
            raise InputError(
                f"--{option.replace('_', '-')} belongs to greedy selection, which --method {method} does not use; "
                "leave it out, or choose greedy or auto"
            )
