"""The recipe: everything that defines one model, as one typed, bounded, frozen object.

A recipe is a composition of parts. It reads and writes YAML without loss, has a stable hash and takes dotted overrides
(`backbone.name=...`). No torch in here: a recipe is checked before anything heavy is imported.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pasture.errors import InputError

Strength = Literal["none", "light", "medium", "heavy"]
TtaName = Literal["none", "flips", "d4"]
Precision = Literal["auto", "float32"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class View(_Section):
    """How a photograph is cut into square pictures."""

    kind: Literal["whole", "halves"] = "halves"
    """`whole`: the photograph squeezed into one square; `halves`: its left and its right half."""
    size: int = Field(256, ge=32, le=1536)
    """Side of each square, in pixels."""


class Backbone(_Section):
    """The network that turns a view into a feature vector."""

    name: str = "tf_efficientnet_lite0"
    """Any model name that timm knows."""
    weights: str = "hub"
    """`hub` (timm's pretrained weights, from the local cache where they are there), `none` (random), `package:<name>`
    (shipped inside an installed Python package) or a file (.safetensors, or .pth read with weights_only)."""
    tuning: Literal["frozen", "last_blocks", "full"] = "frozen"
    """What is trained. A frozen backbone runs once over every picture; its features are kept."""
    blocks: int = Field(4, ge=1, le=200)
    """With `last_blocks`: how many of the last blocks are trained."""


class Fusion(_Section):
    """How the features of several views become one vector."""

    kind: Literal["mean", "concat"] = "mean"
    """`mean`: averaged over the views; `concat`: one behind the other, so that left and right stay apart."""


class Head(_Section):
    """The network that turns the fused features into targets."""

    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = (512, 256)
    """Widths of the hidden layers; empty for a linear head."""
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    """Dropout before the first layer; those after the hidden layers are .5 and then .3 times as large."""
    norm: bool = True
    """Whether a LayerNorm comes first."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Between the layers."""


class Target(_Section):
    """What the head predicts."""

    kind: Literal["five", "primary"] = "five"
    """`five`: all targets; `primary`: Total, GDM and Green, from which Dead and Clover follow."""
    transform: Literal["none", "log1p", "log1p_z"] = "log1p"
    """`log1p_z` is log1p, then a z-score with the statistics of the training fold."""


class LabelSmoothing(_Section):
    """Label-distribution smoothing (LDS) of Dry_Total_g: rare weights count more (Yang et al., ICML 2021)."""

    enabled: bool = False
    """Whether images are weighted at all; the fields below count only then."""
    kernel: Literal["gaussian", "triangular", "laplace"] = "gaussian"
    """What the label histogram is smoothed with."""
    size: int = Field(5, ge=1, le=51)
    """Width of the kernel in histogram bins, odd."""
    sigma: float = Field(2.0, gt=0, le=20)
    """Spread of the gaussian and the laplace kernel, in bins."""
    bin_g: float = Field(5.0, gt=0, le=100)
    """Width of a histogram bin, in grams."""
    reweighting: Literal["inverse", "sqrt_inverse"] = "sqrt_inverse"
    """Weight of an image: one over the smoothed density of its label, or the square root of that."""

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.size % 2 == 0:
            raise ValueError(f"loss.lds.size={self.size} is even; a kernel has a middle, give an odd number of bins")
        return self


class Loss(_Section):
    """What training minimises."""

    kind: Literal["smooth_l1", "huber", "mse"] = "smooth_l1"
    """Loss of one predicted value."""
    beta: float = Field(1.0, gt=0, le=1000)
    """Where smooth_l1 (its beta) and huber (its delta) turn from quadratic to linear, in units of the transformed
    target."""
    weights: Literal["competition", "equal"] = "competition"
    """Weight of each target."""
    consistency: float = Field(0.0, ge=0, le=100)
    """Weight of SmoothL1(Total, Green + Dead + Clover) + SmoothL1(GDM, Green + Clover), in grams after the inverse
    transform. Always 0 by construction where `target.kind` is primary."""
    lds: LabelSmoothing = LabelSmoothing()


class Augment(_Section):
    """What is done to a training picture."""

    strength: Strength = "light"
    """`light`: flips; `medium`: D4, colour jitter, coarse dropout; `heavy`: those stronger, affine and blur."""
    replicas: int = Field(4, ge=1, le=64)
    """For a frozen backbone with `medium` or `heavy`: how many augmented copies of each photograph are kept as
    features beside its D4 elements."""


class Optimizer(_Section):
    """How weights are moved."""

    kind: Literal["adamw"] = "adamw"
    """AdamW: Adam with decoupled weight decay."""
    backbone_lr: float = Field(3e-5, gt=0, le=1)
    """Learning rate of the backbone; unused while it is frozen."""
    head_lr: float = Field(1e-3, gt=0, le=1)
    """Learning rate of everything behind the backbone."""
    weight_decay: float = Field(1e-2, ge=0, le=10)
    """Decay of matrices; biases and norms are not decayed."""
    precision: Precision = "auto"
    """`auto`: mixed precision on a GPU (bfloat16 where it has it, else float16), float32 elsewhere."""


class Schedule(_Section):
    """How long, and how learning rates change."""

    epochs: int = Field(30, ge=1, le=10_000)
    """Passes over the training rows; the cosine is stretched over them."""
    batch_size: int = Field(32, ge=1, le=4096)
    """Images in a step."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which learning rates rise linearly; then they fall along a cosine."""
    floor: float = Field(0.0, ge=0, le=1)
    """Where the cosine ends, as a share of the learning rate."""


class Validation(_Section):
    """Which images are held out together."""

    splitter: Literal["stratified_group", "group", "image", "holdout"] = "stratified_group"
    """By date with alike distributions of Total, by date, by image (flatters), or one random fifth (one fold)."""
    folds: int = Field(5, ge=2, le=50)
    """Number of folds; `holdout` has one, whatever this says."""
    seed: int = Field(42, ge=0, le=2**31)
    """Seed of the split; the same for all trials of a sweep, so that their folds agree."""


class Inference(_Section):
    """How a finished model predicts."""

    tta: TtaName = "d4"
    """Test-time augmentation: the mean over `none` (one element), `flips` (four) or `d4` (all eight)."""


class Recipe(_Section):
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

    @classmethod
    def parse(cls, content: Any, source: str = "recipe") -> Recipe:
        """Recipe from nested plain values.

        Raises:
            InputError: naming the field, what it got and what is allowed.
        """
        if not isinstance(content, Mapping):
            raise InputError(f"{source}: expected a mapping of recipe sections, got {type(content).__name__}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise InputError(f"{source}: {_first_complaint(error)}") from None

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

        Raises:
            InputError: unknown field, or a value out of range.
        """
        content = self.to_dict()
        for field, value in overrides.items():
            _merge(content, field.split("."), value, source)
        return Recipe.parse(content, source)

    def flat(self) -> dict[str, Any]:
        """Dotted field to value, in the order of the sections."""
        return dict(_flatten(self.to_dict()))

    @property
    def hash(self) -> str:
        """12 hex digits of a SHA-256 over every field that differs from its default.

        Fields at their default are left out, so that a later field with a default changes no hash.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def field_names() -> list[str]:
    """Every dotted field of a recipe."""
    return [*Recipe().flat()]


def unknown_field(field: str) -> str:
    """Half a line that says a field is unknown and names the nearest that exist."""
    near = difflib.get_close_matches(field, field_names(), n=3, cutoff=0.5)
    return f"unknown recipe field {field!r}; " + (f"did you mean {' or '.join(near)}?" if near else "see the README")


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


def _first_complaint(error: ValidationError) -> str:
    complaint = error.errors()[0]
    field = ".".join(str(part) for part in complaint["loc"])
    if complaint["type"] == "extra_forbidden":
        return unknown_field(field)
    message = complaint["msg"].removeprefix("Value error, ")
    return f"{field}={complaint['input']!r}: {message}" if field not in message or not field else message
