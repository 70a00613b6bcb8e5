"""The recipe: everything that defines one model, as one typed, bounded, frozen object.

A recipe is a composition of parts. It reads and writes YAML without loss, has a stable hash and takes dotted overrides
(`backbone.name=...`). No torch in here: a recipe is checked before anything heavy is imported.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from pasture.errors import InputError
from pasture.validated import first_error
from trainables.recipe.backbone import BANK, Backbone
from trainables.recipe.sections import (
    Augment,
    Fusion,
    Head,
    Inference,
    Loss,
    Optimizer,
    Schedule,
    Section,
    Stage,
    Target,
    Validation,
    View,
)

_NETWORK_FIELDS: Final = {
    "backbone.out_indices": Backbone().out_indices,
    "backbone.pool": Backbone().pool,
}


class Recipe(Section):
    """Everything that defines one model."""

    view: View = View()
    backbone: Backbone = Backbone()
    fusion: Fusion = Fusion()
    head: Head = Head()
    target: Target = Target()
    loss: Loss = Loss()
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    validation: Validation = Validation()
    inference: Inference = Inference()
    seed: int = Field(0, ge=0, le=2**31)
    """Seed of initial weights, batches, dropout and augmentation."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.view.kind == "corners" and self.view.tiles > 1:
            raise ValueError("view.tiles needs view.kind whole, halves or whole_and_halves; corners are crops already")
        if self.backbone.bank and not self.banked:
            raise ValueError("backbone.name=bank:... has no network to train; schedule.stages must all be frozen")
        if self.backbone.bank and self.augment.extras:
            field = next(iter(self.augment.extras))
            raise ValueError(
                f"augment.{field} changes pictures; backbone.name=bank:... has none, set it to "
                f"{getattr(Augment(), field):g}"
            )
        if not self.neural and not self.banked:
            raise ValueError(f"head.kind={self.head.kind} needs backbone.tuning=frozen and a fixed backbone.pool")
        if not self.neural and self.fusion.kind not in ("mean", "concat"):
            raise ValueError(f"head.kind={self.head.kind} needs fusion.kind mean or concat")
        if not self.neural and self.fusion.within != "mean":
            raise ValueError(f"head.kind={self.head.kind} needs fusion.within=mean")
        if conflict := loss_conflict(self):
            raise ValueError(conflict)
        if conflict := density_conflict(self):
            raise ValueError(conflict)
        if self.target.kind in ("ratios", "dead_ratio", "scalar") and self.target.transform in ("z", "log1p_z"):
            raise ValueError(f"target.kind={self.target.kind} needs target.transform none, sqrt or log1p")
        if self.target.kind in ("components", "ratios", "dead_ratio") and self.head.output != "linear":
            raise ValueError(
                f"target.kind={self.target.kind} keeps its values positive itself; head.output must be linear"
            )
        return self

    @property
    def neural(self) -> bool:
        """Whether the head is a network, trained epoch by epoch."""
        return self.head.kind in ("mlp", "mlp_per_target", "density")

    @property
    def dense(self) -> bool:
        """Whether the head predicts grams for each cell of a photograph."""
        return self.head.kind == "density"

    @property
    def semantic(self) -> Recipe | None:
        """The second backbone as a recipe: frozen, on the halves; None without a second backbone."""
        second = self.backbone.semantic
        if not second.name:
            return None
        return Recipe(
            view=View(kind="halves", size=second.size),
            backbone=Backbone(name=second.name, weights=second.weights),
            augment=self.augment,
            optimizer=Optimizer(precision=self.optimizer.precision),
        )

    @property
    def epochs(self) -> int:
        """Number of epochs of a whole trial; a head that is not a network is fitted in one."""
        return self.schedule.epochs if self.neural else 1

    @property
    def averaged_epochs(self) -> int:
        """With `schedule.choose=average`: the number of last epochs whose weights are averaged; else 0."""
        schedule = self.schedule
        return max(1, round(schedule.average_share * self.epochs)) if schedule.choose == "average" else 0

    @property
    def folds(self) -> int:
        """Number of folds that are trained, those of all repeats."""
        return 1 if self.validation.splitter == "holdout" else self.validation.folds * self.validation.repeats

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the training, with all learning rates filled in."""
        stages = self.schedule.stages or (Stage(share=1.0, tuning=self.backbone.tuning),)
        rates = {"backbone_lr": self.optimizer.backbone_lr, "head_lr": self.optimizer.head_lr}
        return tuple(
            stage.model_copy(update={name: getattr(stage, name) or rate for name, rate in rates.items()})
            for stage in stages
        )

    @property
    def banks(self) -> list[str]:
        """Names of the imported banks that replace its backbones."""
        return [part.backbone.bank for part in (self, self.semantic) if part and part.backbone.bank]

    @property
    def needs_pictures(self) -> bool:
        """Whether any backbone is a network, so that pictures are needed; imported banks replace the others."""
        return any(not part.backbone.bank for part in (self, self.semantic) if part)

    @property
    def adapted(self) -> bool:
        """Whether any stage trains low-rank adapters."""
        return any(stage.tuning == "lora" for stage in self.stages)

    @property
    def banked(self) -> bool:
        """Whether the backbone is a fixed function of the pixels, so that its features are kept in a bank."""
        return all(stage.tuning == "frozen" for stage in self.stages) and self.backbone.pool != "cls_attention"

    @classmethod
    def parse(cls, content: Any, source: str = "recipe") -> Recipe:
        """Recipe from nested plain values.

        Raises:
            InputError: naming the field, its value and the allowed values.
        """
        if not isinstance(content, Mapping):
            raise InputError(f"{source}: expected a mapping of recipe sections, got {type(content).__name__}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise InputError(f"{source}: {_one_line(error)}") from None

    @classmethod
    def from_yaml(cls, text: str, source: str = "recipe") -> Recipe:
        """Recipe from YAML.

        Raises:
            InputError: not YAML, or not a recipe.
        """
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{source}: not YAML ({' '.join(str(error).split())})") from None
        return cls.parse({} if content is None else content, source)

    def to_yaml(self) -> str:
        """All fields, defaults too, as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields as nested plain values."""
        return self.model_dump(mode="json")

    def with_overrides(self, overrides: Mapping[str, Any], source: str = "recipe") -> Recipe:
        """A new recipe with dotted fields replaced; a value that is a mapping is merged into its section.

        Where imported embeddings (`bank:...`) replace a network, the fields that describe what the network computes
        return to their defaults: `view.size`, and `backbone.out_indices` and `backbone.pool` unless they are given.

        Raises:
            InputError: unknown field, or a value out of range.
        """
        content = self.to_dict()
        flat = dict(_flatten(overrides))
        if str(flat.get("backbone.name", "")).startswith(BANK):
            for field, default in _NETWORK_FIELDS.items():
                _merge(content, field.split("."), default, source)
        for field, value in overrides.items():
            _merge(content, field.split("."), value, source)
        if str(content["backbone"]["name"]).startswith(BANK):
            content["view"]["size"] = View().size  # or equal recipes would count as different
        return Recipe.parse(content, source)

    def flat(self) -> dict[str, Any]:
        """Dotted field to value, in the order of the sections."""
        return dict(_flatten(self.to_dict()))

    @property
    def hash(self) -> str:
        """12 hex digits of a SHA-256 over every field that differs from its default.

        Fields at their default are left out, so that new fields with a default do not change it.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def density_conflict(recipe: Recipe) -> str | None:
    """Why a density head cannot be combined with other fields of a recipe, as a message; None where it can."""
    pool, kind = recipe.backbone.pool, recipe.target.kind
    if not recipe.dense:
        return None if pool != "grid" else f"backbone.pool=grid needs head.kind=density, not {recipe.head.kind}"
    if recipe.backbone.bank:
        return "head.kind=density needs cells; imported embeddings (backbone.name=bank:...) have one vector a view"
    if pool != "grid":
        return f"head.kind=density needs the cells of the backbone; set backbone.pool=grid instead of {pool}"
    if recipe.fusion != Fusion():
        return "head.kind=density adds up the cells of all views; fusion.kind and fusion.within must be mean"
    if recipe.head.output != "linear":
        return "head.kind=density keeps its values positive itself; head.output must be linear"
    if kind == "scalar":
        return "head.kind=density predicts grams of each target; target.kind=scalar has one number for all"
    return None


def loss_conflict(recipe: Recipe) -> str | None:
    """Why the loss cannot be combined with other fields of a recipe, as a message; None where it can."""
    loss = recipe.loss
    for field in ("epsilon", "mse_share") if loss.kind in ("gaussian_nll", "r2") else ():
        if getattr(loss, field):
            return f"loss.{field} needs loss.kind smooth_l1, huber or mse; loss.kind={loss.kind} needs it to be 0"
    if loss.kind in ("gaussian_nll", "r2") and not recipe.neural:
        return f"loss.kind={loss.kind} trains a network; head.kind={recipe.head.kind} does not use it"
    if loss.kind == "gaussian_nll" and recipe.target.kind == "scalar":
        return "loss.kind=gaussian_nll has a spread for each target; target.kind=scalar has one number for all"
    weights = {"intervals": loss.intervals.weight, "state": loss.state, "species": loss.species}
    for field in (field for field, weight in weights.items() if weight):
        if not recipe.neural:
            return f"loss.{field} trains a network; head.kind={recipe.head.kind} needs weight 0"
        if recipe.banked and not (recipe.head.hidden or recipe.head.hidden_share):
            return f"loss.{field} on a frozen backbone trains the hidden layers of the head; set head.hidden"
    return None


def field_names() -> list[str]:
    """Every dotted field of a recipe."""
    return [*Recipe().flat()]


def unknown_field(field: str) -> str:
    """Part of an error message: a field is unknown, with the names of similar fields."""
    near = difflib.get_close_matches(field, field_names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`forage recipes fields` lists all"
    return f"unknown recipe field {field!r}; {hint}"


def _merge(content: dict[str, Any], path: list[str], value: Any, source: str) -> None:
    node = content
    for part in path[:-1]:
        node = node.get(part, None)  # type: ignore[assignment]
        if not isinstance(node, dict):
            raise InputError(f"{source}: {unknown_field('.'.join(path))}")
    if path[-1] not in node:
        raise InputError(f"{source}: {unknown_field('.'.join(path))}")
    if isinstance(node[path[-1]], dict):
        if not isinstance(value, Mapping):
            raise InputError(f"{source}: {'.'.join(path)} is a section; give one of its fields, or a mapping")
        for key, part in value.items():
            _merge(content, [*path, *str(key).split(".")], part, source)
    else:
        node[path[-1]] = value


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        return unknown_field(".".join(str(part) for part in first["loc"]))
    return first_error(error)
