"""The names of the methods, which of them is the default, and the options of greedy selection.

Imports nothing heavy: the command line reads it at every start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from pasture.errors import InputError

MethodName = Literal["uniform", "best-k", "shrunk", "greedy", "simplex", "per-target", "ridge"]
"""From the simplest to the most flexible."""

MethodChoice = Literal[MethodName, "auto"]
"""What a user may ask for."""

DEFAULT_METHOD: Final[MethodChoice] = "greedy"


@dataclass(frozen=True)
class Options:
    """How to select. The defaults are plain greedy selection over all members.

    Attributes:
        steps: length of the greedy path, warm start included.
        warm_start: the first so many picks are the best members by their own score (Caruana 2004, section 2.2).
        bags: average the selections from so many random parts of the members (section 2.3); 0 for none.
        bag_fraction: share of the members in each bag.
        seed: draws the bags.
        max_members: at most so many distinct members.
        max_backbones: at most so many distinct backbones.
        min_gain: end the path at a step that raises R2 by less than this; None to take all steps.
        min_weight: drop members with less weight than this, and share their weight among the others.

    Raises:
        InputError: a value out of its range, naming the option.
    """

    steps: int = 200
    warm_start: int = 0
    bags: int = 0
    bag_fraction: float = 0.5
    seed: int = 0
    max_members: int | None = None
    max_backbones: int | None = None
    min_gain: float | None = None
    min_weight: float = 0.0

    @property
    def limited(self) -> bool:
        """Whether members or backbones are limited."""
        return self.max_members is not None or self.max_backbones is not None

    def __post_init__(self) -> None:
        ranges = {
            "steps": (1, math.inf),
            "warm_start": (0, math.inf),
            "bags": (0, math.inf),
            "bag_fraction": (0, 1),
            "max_members": (1, math.inf),
            "max_backbones": (1, math.inf),
            "min_weight": (0, 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
                raise InputError(f"selection option {name}={value}: expected {bounds}")


def check_options(method: MethodChoice, options: Options) -> None:
    """Refuse options that the method does not use.

    Raises:
        InputError: naming the option.
    """
    if method in ("greedy", "auto") or options.limited:
        return
    default = Options()
    for option in ("steps", "warm_start", "bags", "min_gain"):
        if getattr(options, option) != getattr(default, option):
            raise InputError(
                f"--{option.replace('_', '-')} belongs to greedy selection, which --method {method} does not use; "
                "leave it out, or choose greedy or auto"
            )
