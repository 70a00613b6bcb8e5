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
Tuning = Literal["frozen", "last_blocks", "lora", "full"]
Pool = Literal["default", "cls", "mean", "cls_mean", "cls_attention"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class View(_Section):
    """How a photograph is cut into square pictures."""

    kind: Literal["whole", "halves", "corners"] = "halves"
    """`whole`: the photograph squeezed into one square; `halves`: its left and its right half; `corners`: the whole and
    its four quarters."""
    tiles: int = Field(1, ge=1, le=8)
    """With `whole` and `halves`: each is cut into tiles x tiles squares of `size` pixels, a group for fusion."""
    size: int = Field(256, ge=32, le=1536)
    """Side of each square, in pixels."""


class Lora(_Section):
    """Low-rank adapters on a transformer's qkv matrices (Hu et al., ICLR 2022), used with `backbone.tuning` lora."""

    rank: int = Field(8, ge=1, le=256)
    """Rank of the update of a matrix."""
    alpha: float = Field(16.0, gt=0, le=1024)
    """The update is scaled by alpha over rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before the adapters."""


class Semantic(_Section):
    """A second, frozen backbone whose features of the two halves, averaged, join the fused vector."""

    name: str = ""
    """Any model name that timm knows; empty for none."""
    weights: str = "hub"
    """As `backbone.weights`."""
    size: int = Field(384, ge=32, le=1536)
    """Side of the halves it sees, in pixels."""


class Backbone(_Section):
    """The network that turns a view into a feature vector."""

    name: str = "tf_efficientnet_lite0"
    """Any model name that timm knows."""
    weights: str = "hub"
    """`hub` (timm's pretrained weights, from the local cache where they are there), `none` (random), `package:<name>`
    (shipped inside an installed Python package) or a file (.safetensors, or .pth read with weights_only)."""
    tuning: Tuning = "frozen"
    """What is trained. A frozen backbone runs once over every picture; its features are kept."""
    blocks: int = Field(4, ge=1, le=200)
    """With `last_blocks`: how many of the last blocks are trained."""
    taps: tuple[Annotated[int, Field(ge=0, le=500)], ...] = ()
    """Blocks (of a convolutional network: stages), counted from 0, whose pooled outputs are concatenated; empty for the
    model's own output."""
    pool: Pool = "default"
    """How tokens become a vector: `default` (as the model was trained), the class token, the mean of the patches, both
    (`cls_mean`), or the class token beside a trained attention over the patches (`cls_attention`, no taps)."""
    lora: Lora = Lora()
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    semantic: Semantic = Semantic()

    @model_validator(mode="after")
    def _attention_without_taps(self) -> Self:
        if self.taps and self.pool == "cls_attention":
            raise ValueError("backbone.pool=cls_attention looks at the last block; it goes with no backbone.taps")
        return self


class Fusion(_Section):
    """How the features of several views become one vector: first within a group (the tiles of a half, the whole and
    its corners), then across groups."""

    within: Literal["mean", "film", "attention"] = "mean"
    """`film`: each view is modulated by the mean of its group; `attention`: a weighted mean."""
    kind: Literal["mean", "concat", "attention", "late"] = "mean"
    """`mean`: averaged over the groups; `concat`: one behind the other, so that left and right stay apart;
    `attention`: a weighted mean; `late`: a prediction for each group, averaged, where in training each group must meet
    the targets by itself."""


class Head(_Section):
    """What turns the fused features into targets."""

    kind: Literal["mlp", "mlp_per_target", "ridge", "lightgbm", "catboost"] = "mlp"
    """A network for all targets, one network for each, or, on a frozen backbone, a model of another kind."""
    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = (512, 256)
    """Widths of the hidden layers; empty for a linear head."""
    hidden_share: float = Field(0.0, ge=0, le=4)
    """If above 0: instead of `hidden`, one hidden layer of this share of the input's width, at least 8."""
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    """Dropout before the first layer; those after the hidden layers are .5 and then .3 times as large."""
    input_dropout: bool = True
    """Whether there is a dropout before the first layer; without it, the first hidden layer is followed by a whole
    `dropout`."""
    norm: bool = True
    """Whether a LayerNorm comes first."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Between the layers."""
    output: Literal["linear", "softplus"] = "linear"
    """`softplus` keeps predicted values positive."""
    components: int = Field(0, ge=0, le=1024)
    """For ridge, lightgbm and catboost: principal components kept of the features; 0 for all features."""


class Target(_Section):
    """What the head predicts."""

    kind: Literal["five", "primary", "four", "ratios", "scalar"] = "five"
    """`five`: all targets; `primary`: Total, GDM and Green, from which Dead and Clover follow; `four`: those and
    Clover; `ratios`: Total and the proportions of Green, Dead and Clover (softmax), always in balance; `scalar`: one
    number for all five."""
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
    bin_g: float = Field(5.0, ge=0.1, le=100)
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
    mse_share: float = Field(0.0, ge=0, le=1)
    """Share of a squared error mixed in: (1 - share) * kind + share * MSE."""
    weights: Literal["competition", "equal", "total"] = "competition"
    """Weight of each target; `total`: three times as much for Dry_Total_g as for each other."""
    consistency: float = Field(0.0, ge=0, le=100)
    """Weight of SmoothL1(Total, Green + Dead + Clover) + SmoothL1(GDM, Green + Clover), in grams after the inverse
    transform. Always 0 by construction where `target.kind` is primary."""
    proportions: float = Field(0.0, ge=0, le=100)
    """Weight of the Kullback-Leibler divergence of predicted from true proportions of Green, Dead and Clover."""
    distillation: float = Field(0.0, ge=0, le=100)
    """Weight of the same loss against a teacher that sees NDVI, height, month and species of the training fold."""
    auxiliary: float = Field(0.0, ge=0, le=100)
    """Weight of predicting NDVI and height (standardised, squared error) from the fused features."""
    lds: LabelSmoothing = LabelSmoothing()


class Mixup(_Section):
    """Mixing of the features of two images and of their weights in grams (Zhang et al., ICLR 2018)."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of batches that are mixed."""
    alpha: float = Field(0.4, gt=0, le=10)
    """The share of the first image is max(b, 1 - b) with b from Beta(alpha, alpha)."""


class Augment(_Section):
    """What is done to a training picture."""

    strength: Strength = "light"
    """`light`: flips; `medium`: D4, colour jitter, coarse dropout; `heavy`: those stronger, affine and blur."""
    replicas: int = Field(4, ge=1, le=64)
    """For a frozen backbone with `medium` or `heavy`: how many augmented copies of each photograph are kept as
    features beside its D4 elements."""
    mixup: Mixup = Mixup()


class Optimizer(_Section):
    """How weights are moved."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adamw` is Adam with decoupled weight decay; `sgd` has momentum .9."""
    backbone_lr: float = Field(3e-5, gt=0, le=1)
    """Learning rate of the backbone; unused while it is frozen."""
    head_lr: float = Field(1e-3, gt=0, le=1)
    """Learning rate of everything behind the backbone."""
    weight_decay: float = Field(1e-2, ge=0, le=10)
    """Decay of matrices; biases and norms are not decayed."""
    precision: Precision = "auto"
    """`auto`: mixed precision on a GPU (bfloat16 where it has it, else float16), float32 elsewhere."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """The learning rate of a backbone's layer is this to the power of its distance from the last."""
    accumulate: int = Field(1, ge=1, le=256)
    """Batches whose gradients are added up for one step."""
    clip: float = Field(0.0, ge=0, le=1000)
    """Largest norm of the gradient; 0 for no clipping."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated and saved; 0 for none."""


class Stage(_Section):
    """A part of the training with its own tuning and rates, its own warm-up and its own optimiser."""

    share: float = Field(gt=0, le=1)
    """Of all epochs; the shares of all stages sum to 1."""
    tuning: Tuning = "frozen"
    """As `backbone.tuning`."""
    backbone_lr: float | None = Field(None, gt=0, le=1)
    """Learning rate; the optimiser section's by default."""
    head_lr: float | None = Field(None, gt=0, le=1)
    """Learning rate; the optimiser section's by default."""


class Schedule(_Section):
    """How long, and how learning rates change."""

    kind: Literal["cosine", "restarts", "plateau"] = "cosine"
    """`restarts`: the cosine starts anew after each of `cycles`; `plateau`: a tenth after `patience` epochs without a
    better score."""
    cycles: int = Field(3, ge=1, le=100)
    """With `restarts`: how many cosines there are."""
    patience: int = Field(3, ge=1, le=1000)
    """With `plateau`: epochs without a better score before the rates fall."""
    early_stopping: int = Field(0, ge=0, le=10_000)
    """The trial ends after this many epochs without a better score; 0 for never."""
    stages: tuple[Stage, ...] = ()
    """Parts of the training; empty for one with `backbone.tuning`."""

    epochs: int = Field(30, ge=1, le=10_000)
    """Passes over the training rows; the cosine is stretched over them."""
    batch_size: int = Field(32, ge=1, le=4096)
    """Images in a step."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which learning rates rise linearly; then they fall along a cosine."""
    floor: float = Field(0.0, ge=0, le=1)
    """Where the cosine ends, as a share of the learning rate."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.stages and abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            raise ValueError("schedule.stages: the shares must sum to 1")
        return self


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

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.view.kind == "corners" and self.view.tiles > 1:
            raise ValueError("view.tiles goes with view.kind whole or halves; corners are crops already")
        if not self.neural and not self.banked:
            raise ValueError(f"head.kind={self.head.kind} needs backbone.tuning=frozen and a fixed backbone.pool")
        if not self.neural and self.fusion.kind not in ("mean", "concat"):
            raise ValueError(f"head.kind={self.head.kind} goes with fusion.kind mean or concat")
        if not self.neural and self.fusion.within != "mean":
            raise ValueError(f"head.kind={self.head.kind} goes with fusion.within=mean")
        if self.target.kind in ("ratios", "scalar") and self.target.transform == "log1p_z":
            raise ValueError(f"target.kind={self.target.kind} goes with target.transform none or log1p")
        if self.target.kind == "ratios" and self.head.output != "linear":
            raise ValueError("target.kind=ratios keeps its values positive itself; head.output must be linear")
        return self

    @property
    def neural(self) -> bool:
        """Whether the head is a network, trained epoch by epoch."""
        return self.head.kind in ("mlp", "mlp_per_target")

    @property
    def semantic(self) -> Recipe | None:
        """The second backbone as a recipe of its own: frozen, on the halves; None where there is none."""
        second = self.backbone.semantic
        if not second.name:
            return None
        return Recipe(
            view=View(kind="halves", size=second.size),
            backbone=Backbone(name=second.name, weights=second.weights),
            augment=self.augment,
        )

    @property
    def epochs(self) -> int:
        """Epochs of a whole trial; what is no network is fitted in one."""
        return self.schedule.epochs if self.neural else 1

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The parts of the training, with every rate filled in."""
        stages = self.schedule.stages or (Stage(share=1.0, tuning=self.backbone.tuning),)
        rates = {"backbone_lr": self.optimizer.backbone_lr, "head_lr": self.optimizer.head_lr}
        return tuple(
            stage.model_copy(update={name: getattr(stage, name) or rate for name, rate in rates.items()})
            for stage in stages
        )

    @property
    def banked(self) -> bool:
        """Whether the backbone is a fixed function of the pixels, so that its features can be kept."""
        return all(stage.tuning == "frozen" for stage in self.stages) and self.backbone.pool != "cls_attention"

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
