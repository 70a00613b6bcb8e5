"""One recipe field, or one section, that a search varies, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from search_spaces.conditions import RECIPE, Conditions

Label = str | int | float | bool | None
"""What a sampler sees of a value."""

_KINDS: Final = ("choice", "uniform", "log_uniform", "integer", "constant")


class Suggest(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Label]) -> Label:
        """One of some labels."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in a range."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number in a range, both ends included."""


def _options(content: Any) -> dict[Label, Any]:
    if isinstance(content, Mapping) and content:
        return {str(label): value for label, value in content.items()}
    if isinstance(content, list) and content:
        # Optuna accepts plain values only; the label of a list such as [512, 256] is its text.
        return {v if isinstance(v, Label) else str(v): v for v in content}
    raise ValueError(f"expected a list of values, or a mapping of names to sections; got {content!r}")


def _range(content: Any) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in content)
    except (TypeError, ValueError):
        raise ValueError(f"expected [low, high], got {content!r}") from None
    if low > high:
        raise ValueError(f"the low end {low} is above the high end {high}")
    return low, high


def _positive(content: Any) -> tuple[float, float]:
    low, high = _range(content)
    if low <= 0:
        raise ValueError(f"the low end {low} must be above 0")
    return low, high


def _whole(content: Any) -> tuple[int, int]:
    low, high = _range(content)
    if not (low.is_integer() and high.is_integer()):
        raise ValueError(f"expected whole numbers, got {content!r}")
    return int(low), int(high)


class Variation(BaseModel):
    """How a field varies, as written in a space file: exactly one kind, and optionally `when`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: Annotated[dict[Any, Any] | None, BeforeValidator(_options)] = None
    uniform: Annotated[tuple[float, float] | None, BeforeValidator(_range)] = None
    log_uniform: Annotated[tuple[float, float] | None, BeforeValidator(_positive)] = None
    integer: Annotated[tuple[int, int] | None, BeforeValidator(_whole)] = None
    constant: Any = None
    when: Conditions = {}

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            raise ValueError(f"expected a mapping such as {{uniform: [0.1, 0.5]}}, got {content!r}")
        if len(set(content) & set(_KINDS)) != 1 or set(content) - {*_KINDS, "when"}:
            raise ValueError(f"expected one of {', '.join(_KINDS)}, and optionally `when`; got {[*content]}")
        return content

    @property
    def kind(self) -> str:
        """choice, uniform, log_uniform, integer or constant."""
        return next(kind for kind in _KINDS if kind in self.model_fields_set)


class Parameter(BaseModel):
    """One field, or one section, that varies; or the whole recipe.

    Attributes:
        field: dotted, of the recipe; `recipe` for a choice among whole recipes, whose values are all their sections.
        kind: choice, uniform, log_uniform, integer or constant.
        options: label to value (choice); empty for the other kinds.
        low, high: the range, both ends included; for a constant both are its value.
        when: dotted field to the values under which the parameter exists.
    """

    model_config = ConfigDict(frozen=True)

    field: str
    kind: str
    options: dict[Any, Any] = {}
    low: Any = None
    high: Any = None
    when: Conditions = {}

    @classmethod
    def of(cls, field: str, variation: Variation) -> Self:
        """The parameter that a line of a space file describes."""
        kind, content = variation.kind, getattr(variation, variation.kind)
        if kind == "choice":
            return cls(field=field, kind=kind, options=content, when=variation.when)
        low, high = (content, content) if kind == "constant" else content
        return cls(field=field, kind=kind, low=low, high=high, when=variation.when)

    def draw(self, trial: Suggest) -> Label:
        """A value's label, as suggested."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.field, list(self.options))
        if self.kind == "integer":
            return trial.suggest_int(self.field, self.low, self.high)
        return trial.suggest_float(self.field, self.low, self.high, log=self.kind == "log_uniform")

    def value(self, label: Label) -> Any:
        """The value of a label."""
        return self.options[label] if self.kind == "choice" else label

    @property
    def whole(self) -> bool:
        """Whether it chooses among whole recipes."""
        return self.field == RECIPE

    def effect(self, label: Label) -> dict[str, Any]:
        """What a label changes in a flattened recipe; a choice among recipes adds its own name."""
        return dict(leaves(self.field, self.value(label))) | ({RECIPE: label} if self.whole else {})

    def labels(self) -> list[Any]:
        """Labels whose validity implies that of all others: every option, or both ends of a range."""
        if self.kind == "choice":
            return list(self.options)
        return [self.low] if self.low == self.high else [self.low, self.high]

    def label_in(self, flat: Mapping[str, Any]) -> list[Label]:
        """The label of the value that a flattened recipe has here; none if the value is not in the space."""
        for label in self.labels() if self.kind == "choice" else []:
            if all(flat.get(leaf) == _plain(value) for leaf, value in leaves(self.field, self.value(label))):
                return [label]
        value = flat.get(self.field)
        if self.kind != "choice" and isinstance(value, int | float) and self.low <= value <= self.high:
            return [value if self.kind == "integer" else float(value)]
        return []

    def fields(self) -> set[str]:
        """The dotted fields that it sets."""
        return {leaf for label in self.labels() for leaf in self.effect(label)}


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted fields and their values, of a field, of a section or of a whole recipe."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(key if name == RECIPE else f"{name}.{key}", part)
    else:
        yield name, value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
