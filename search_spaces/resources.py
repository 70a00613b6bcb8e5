"""What trials ask of the cluster, recipe by recipe: the `resources` of a space file.

    resources:
      - {gpus: 1, cpus: 8, when: {backbone.name: [vit_large_patch14_dinov2, vit_base_patch14_dinov2]}}
      - {gpus: 4, gpus_per_fold: 2, when: {backbone.name: vit_giant_patch14_dinov2}}
      - {gpus: 0.25, when: {backbone.tuning: frozen}}

The first rule whose conditions hold counts; what it does not name, and recipes that no rule is for, ask for what the
command line says (--cpus-per-trial, --gpus-per-trial, --gpus-per-fold).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pasture.errors import InputError
from search_spaces.conditions import Conditions, check_conditions, parse_conditions
from trainables.recipe.recipe import Recipe

_AMOUNTS: Final = {"cpus", "gpus", "gpus_per_fold"}


class Request(NamedTuple):
    """What a trial asks for.

    Attributes:
        resources: of Ray, all in all.
        gpus_per_fold: how many of its GPUs train one fold together.
    """

    resources: dict[str, float]
    gpus_per_fold: int = 1


@dataclass(frozen=True)
class Rule:
    """What trials of some recipes ask for; None is what the command line says."""

    cpus: float | None = None
    gpus: float | None = None
    gpus_per_fold: int | None = None
    when: Conditions = field(default_factory=dict)


def parse_rules(content: Any, base: Recipe, source: str) -> tuple[Rule, ...]:
    """Rules from plain values.

    Raises:
        InputError: naming the rule and what was expected.
    """
    if not isinstance(content, list):
        raise InputError(f"{source}: resources: expected a list of rules such as {{gpus: 1, when: {{...}}}}")
    return tuple(_rule(spec, base, f"{source}: resources[{i}]") for i, spec in enumerate(content))


def _rule(spec: Any, base: Recipe, where: str) -> Rule:
    if not isinstance(spec, Mapping) or not set(spec) & _AMOUNTS or set(spec) - _AMOUNTS - {"when"}:
        raise InputError(f"{where}: expected `cpus`, `gpus` or `gpus_per_fold`, and optionally `when`; got {spec!r}")
    amounts = {name: spec[name] for name in _AMOUNTS if name in spec}
    for name, value in amounts.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InputError(f"{where}.{name}: expected a number of at least 0, got {value!r}")
        if name == "gpus_per_fold" and (not isinstance(value, int) or value < 1):
            raise InputError(f"{where}.{name}: expected a whole number of at least 1, got {value!r}")
    rule = Rule(**amounts, when=parse_conditions(spec, where))
    check_conditions(rule.when, base, where)
    return rule
