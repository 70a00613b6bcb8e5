"""The sections of a recipe: every field with its meaning, its bounds and its default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pasture.folds import Folds, Splitter, Stratify, make_folds, repeated_folds

if TYPE_CHECKING:
    from pasture.dataset import Dataset

Strength = Literal["none", "light", "medium", "heavy"]
TtaName = Literal["none", "flips", "d4"]
Precision = Literal["auto", "float32"]
Tuning = Literal["frozen", "last_blocks", "lora", "full"]
Choose = Literal["last", "best", "average"]


class Section(BaseModel):
    """A frozen group of fields that refuses unknown ones; the docstring of an attribute is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class View(Section):
    """How a photograph is cut into square pictures."""

    kind: Literal["whole", "halves", "whole_and_halves", "corners"] = "halves"
    """`whole`: the photograph squeezed into one square; `halves`: its left and its right half; `whole_and_halves`: all
    three; `corners`: the whole and its four quarters."""
    tiles: int = Field(1, ge=1, le=8)
    """Cut the whole and each half into tiles x tiles squares of `size` pixels, a group each. Not with `corners`."""
    size: int = Field(256, ge=32, le=1536)
    """Side of each square, in pixels."""


class Fusion(Section):
    """How the features of several views become one vector: first within each group (the tiles of the whole or of a
    half, or the whole with its corners), then across groups."""

    within: Literal["mean", "film", "attention"] = "mean"
    """`film`: each view is modulated by the mean of its group; `attention`: a weighted mean."""
    kind: Literal["mean", "concat", "attention", "late"] = "mean"
    """`mean`: averaged over the groups; `concat`: one behind the other, so that left and right stay apart;
    `attention`: a weighted mean; `late`: a prediction for each group, averaged, where in training each group must meet
    the targets by itself."""


class Head(Section):
    """The part of the model that predicts targets from the fused features."""

    kind: Literal["mlp", "mlp_per_target", "density", "ridge", "pls", "lightgbm", "catboost"] = "mlp"
    """One network for all targets, one network per target, one that predicts grams for each cell of the photograph
    (`density`, with backbone.pool=grid), or, on a frozen backbone, a model fitted in one go: ridge regression, partial
    least squares, or boosted trees."""
    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = (512, 256)
    """Widths of the hidden layers; empty for a linear head."""
    hidden_share: float = Field(0.0, ge=0, le=4)
    """If above 0: instead of `hidden`, one hidden layer of this share of the input's width, at least 8."""
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    """Dropout before the first layer; those after the hidden layers are .5 and then .3 times as large."""
    input_dropout: bool = True
    """Whether there is a dropout before the first layer; without it, the dropout after the first hidden layer is
    `dropout` itself."""
    norm: bool = True
    """Whether the first layer is a LayerNorm."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Activation between the layers."""
    output: Literal["linear", "softplus"] = "linear"
    """`softplus` keeps predicted values positive."""
    components: int = Field(0, ge=0, le=1024)
    """For ridge, lightgbm and catboost: principal components kept of the features, 0 for all features. For pls: its
    number of components, 0 for 12."""
    penalty: float = Field(0.0, ge=0, le=10)
    """For ridge: its penalty divided by the number of standardised features, or of `components`; 0 for one penalty per
    target that leave-one-out chooses in each fold."""


class Target(Section):
    """The values that the head predicts."""

    kind: Literal["five", "primary", "clover", "four", "components", "ratios", "dead_ratio", "scalar"] = "five"
    """`five`: all targets; `primary`: Total, GDM and Green, from which Dead and Clover follow; `clover`: Total, GDM and
    Clover, from which Dead and Green follow; `four`: Total, GDM, Green and Clover; `components`: Green, Dead and
    Clover, always in balance; `ratios`: Total and the proportions of Green, Dead and Clover (softmax), always in
    balance; `dead_ratio`: Total, the share of Dead in it and the share of Clover in the rest, always in balance;
    `scalar`: one number for all five."""
    transform: Literal["none", "z", "sqrt", "log1p", "log1p_z"] = "log1p"
    """Scale on which targets are predicted; `z` is a z-score with the statistics of the training fold, `log1p_z` is
    log1p, then a z-score."""


class LabelSmoothing(Section):
    """Label-distribution smoothing (LDS) of Dry_Total_g: images of rare weights get more weight (Yang et al.,
    ICML 2021)."""

    enabled: bool = False
    """Whether images are weighted; the fields below have no effect otherwise."""
    kernel: Literal["gaussian", "triangular", "laplace"] = "gaussian"
    """Kernel that smooths the label histogram."""
    size: int = Field(5, ge=1, le=51)
    """Width of the kernel in histogram bins, odd."""
    sigma: float = Field(2.0, gt=0, le=20)
    """Spread of the gaussian and the laplace kernel, in bins."""
    bin_g: float = Field(5.0, ge=0.1, le=100)
    """Width of a histogram bin, in grams."""
    reweighting: Literal["inverse", "sqrt_inverse"] = "sqrt_inverse"
    """Weight of an image: the inverse of the smoothed density of its label, or the square root of the inverse."""

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.size % 2 == 0:
            raise ValueError(f"loss.lds.size={self.size} is even; a kernel has a middle, give an odd number of bins")
        return self


class Intervals(Section):
    """Interval classifiers beside the regression, in training only: for each of the five targets, the head's last
    hidden layer also predicts in which of `bins` intervals the weight lies (cross-entropy)."""

    bins: int = Field(7, ge=2, le=50)
    """Number of intervals of a target; their edges are quantiles of the training fold. Equal weights, such as the zeros
    of clover, lie in the same interval."""
    weight: float = Field(0.0, ge=0, le=100)
    """Weight of the cross-entropy, the mean over the targets, in the loss; 0 for no classifiers."""


class Loss(Section):
    """The training loss."""

    kind: Literal["smooth_l1", "huber", "mse", "gaussian_nll", "r2"] = "smooth_l1"
    """Loss of one predicted value; `gaussian_nll`: the negative log-likelihood of a normal distribution, whose spread
    the head predicts too, for every photograph and target; `r2`: squared error in grams over the variance of the
    training fold, weighted as in the competition: 1 - R2 of the metric, whatever the scale of the targets."""
    epsilon: float = Field(0.0, ge=0, le=1000)
    """Errors up to this, in units of the transformed target, cost nothing; of larger ones the rest counts
    (epsilon-insensitive, Vapnik 1995). Goes with smooth_l1, huber and mse."""
    beta: float = Field(1.0, gt=0, le=1000)
    """Where smooth_l1 (its beta) and huber (its delta) turn from quadratic to linear, in units of the transformed
    target."""
    mse_share: float = Field(0.0, ge=0, le=1)
    """Share of a squared error in the loss: (1 - share) * kind + share * MSE."""
    weights: Literal["competition", "equal", "total"] = "competition"
    """Weight of each target; `total`: Dry_Total_g weighs three times as much as each other target."""
    consistency: float = Field(0.0, ge=0, le=100)
    """Weight of SmoothL1(Total, Green + Dead + Clover) + SmoothL1(GDM, Green + Clover), in grams after the inverse
    transform. Always 0 with `target.kind` primary."""
    proportions: float = Field(0.0, ge=0, le=100)
    """Weight of the Kullback-Leibler divergence of predicted from true proportions of Green, Dead and Clover."""
    distillation: float = Field(0.0, ge=0, le=100)
    """Weight of the same loss against the predictions of a teacher, fitted to NDVI, height, month and species of the
    training fold."""
    auxiliary: float = Field(0.0, ge=0, le=100)
    """Weight of predicting NDVI and height (standardised, squared error) from the fused features."""
    state: float = Field(0.0, ge=0, le=100)
    """Weight of telling the State (cross-entropy) from the head's last hidden layer, in training only. Photographs with
    pseudo-labels have none and do not count."""
    species: float = Field(0.0, ge=0, le=100)
    """The same for the species and their groups, of which a photograph may have several (binary cross-entropy)."""
    intervals: Intervals = Intervals()
    lds: LabelSmoothing = LabelSmoothing()


class Mixup(Section):
    """Mixing of the features of two images and of their weights in grams (Zhang et al., ICLR 2018)."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of batches that are mixed."""
    alpha: float = Field(0.4, gt=0, le=10)
    """The share of the first image is max(b, 1 - b) with b from Beta(alpha, alpha)."""


class Augment(Section):
    """Augmentation of training pictures."""

    strength: Strength = "light"
    """`light`: flips; `medium`: D4, colour jitter, coarse dropout; `heavy`: those stronger, affine and blur."""
    crop: float = Field(1.0, ge=0.1, le=1)
    """Random resized crop: each training picture is cut to a random share of its area, from this to 1, and enlarged to
    its size. The targets stay those of the whole photograph. 1 for none."""
    shrink: float = Field(1.0, ge=0.1, le=1)
    """Scale and pad: each training picture is scaled to a random share of its side, from this to 1, and padded with
    black. 1 for none."""
    artefacts: float = Field(0.0, ge=0, le=1)
    """Share of training pictures on which rows of red dots (the light of a sensor) or an orange date stamp are drawn,
    as some photographs of the competition have them. 0 for none."""
    replicas: int = Field(4, ge=1, le=64)
    """For a frozen backbone with `medium`, `heavy`, `crop`, `shrink` or `artefacts`: how many augmented copies of each
    photograph are kept as features beside its D4 elements."""
    mixup: Mixup = Mixup()

    @property
    def extras(self) -> dict[str, float]:
        """Fields that change pixels beside `strength` (crop, shrink, artefacts), without those at their defaults."""
        return self.model_dump(include={"crop", "shrink", "artefacts"}, exclude_defaults=True)


class Optimizer(Section):
    """The optimiser of the weights."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adamw` is Adam with decoupled weight decay; `sgd` has momentum .9."""
    backbone_lr: float = Field(3e-5, gt=0, le=1)
    """Learning rate of the backbone; unused while it is frozen."""
    head_lr: float = Field(1e-3, gt=0, le=1)
    """Learning rate of all layers after the backbone."""
    weight_decay: float = Field(1e-2, ge=0, le=10)
    """Weight decay of matrices. Biases, norms and the parameters that timm's model exempts (class token, position
    embeddings) are not decayed."""
    precision: Precision = "auto"
    """`auto`: mixed precision on a GPU (bfloat16 if it supports it, else float16), float32 elsewhere."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """The learning rate of a backbone's layer is this to the power of its distance from the last."""
    grad_accum_steps: int = Field(1, ge=1, le=256)
    """Number of batches whose gradients are accumulated for one step."""
    fit_memory: bool = False
    """On a GPU, calculate from parameters and pixels (as `forage recipes fit`) how many images of a batch to compute at
    a time and whether to use gradient checkpointing; a step still learns from `schedule.batch_size` images, but batch
    norms that are trained see those of a part. No effect on other devices and with a frozen backbone."""
    clip_grad: float = Field(0.0, ge=0, le=1000)
    """Largest norm of the gradient; 0 for no clipping."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the weights, which is evaluated and saved instead; 0 for none."""


class Stage(Section):
    """A part of the training with its own tuning and rates, its own warm-up and its own optimiser."""

    share: float = Field(gt=0, le=1)
    """Share of all epochs; the shares of all stages sum to 1."""
    tuning: Tuning = "frozen"
    """As `backbone.tuning`."""
    blocks: int | None = Field(None, ge=1, le=200)
    """With `last_blocks`: how many of the last blocks are trained; backbone.blocks by default. More from stage to stage
    is gradual unfreezing (Howard, Ruder, ULMFiT, ACL 2018)."""
    backbone_lr: float | None = Field(None, gt=0, le=1)
    """Learning rate; the optimiser section's by default."""
    head_lr: float | None = Field(None, gt=0, le=1)
    """Learning rate; the optimiser section's by default."""

    @model_validator(mode="after")
    def _blocks_of_last_blocks(self) -> Self:
        if self.blocks is not None and self.tuning != "last_blocks":
            raise ValueError(f"schedule.stages: blocks={self.blocks} needs tuning=last_blocks, not {self.tuning}")
        return self


class Schedule(Section):
    """Length of the training, learning rates over time, and the epoch that counts."""

    kind: Literal["cosine", "restarts", "plateau"] = "cosine"
    """`restarts`: `cycles` cosines, one after the other; `plateau`: rates fall to a tenth after `patience` epochs
    without a better score."""
    cycles: int = Field(3, ge=1, le=100)
    """With `restarts`: number of cosines."""
    patience: int = Field(3, ge=1, le=1000)
    """With `plateau`: number of epochs without a better score after which rates fall."""
    early_stopping: int = Field(0, ge=0, le=10_000)
    """End the trial after this many epochs without a better score; 0 for never."""
    choose: Choose = "last"
    """Which epoch counts, for all folds: `last`; `best`, the one with the best OOF score; `average`, the mean of the
    weights after each of the last epochs (SWA, Izmailov et al., UAI 2018, arXiv 1803.05407), for which batch norms
    take new running statistics from the training rows."""
    average_share: float = Field(0.25, gt=0, le=1)
    """With `average`: the share of all epochs, counted from the last, whose weights are averaged."""
    stages: tuple[Stage, ...] = ()
    """Stages of the training; empty for a single one with `backbone.tuning`."""
    epochs: int = Field(30, ge=1, le=10_000)
    """Number of passes over the training rows, and length of the cosine."""
    batch_size: int = Field(32, ge=1, le=4096)
    """Number of images in a batch."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which learning rates rise linearly; then they fall along a cosine."""
    floor: float = Field(0.0, ge=0, le=1)
    """Last value of the cosine, as a share of the learning rate."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.stages and abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            raise ValueError("schedule.stages: the shares must sum to 1")
        if self.choose == "average" and self.early_stopping:
            raise ValueError("schedule.choose=average needs schedule.early_stopping=0: it averages the last epochs")
        return self


class Validation(Section):
    """Which images are held out together."""

    splitter: Splitter = "stratified_group"
    """Hold out by date with folds that are alike in what `stratify` says, by date, by image (scores are too high), or
    one random fifth (a single fold)."""
    stratify: Stratify = "total"
    """With `stratified_group`: what the folds have in similar shares: fifths of Dry_Total_g, the States, or the
    patterns of zeros (which of Green, Dead and Clover are 0). Dates stay together in any case."""
    folds: int = Field(5, ge=2, le=50)
    """Number of folds; `holdout` always has one."""
    seed: int = Field(42, ge=0, le=2**31)
    """Seed of the split; the same for all trials of a sweep, so that their folds agree."""
    repeats: int = Field(1, ge=1, le=20)
    """Repeated cross-validation: number of splits, shuffled with `seed`, `seed` + 1, ..., each with `folds` models;
    the OOF prediction of an image is the mean over the repeats, and a finished trial predicts with all models."""

    @model_validator(mode="after")
    def _repeatable(self) -> Self:
        if self.repeats > 1 and self.splitter == "holdout":
            raise ValueError("validation.repeats needs a splitter with folds; holdout has one")
        return self

    def splits(self, dataset: Dataset) -> Folds:
        """(repeats, n) fold in which each image is held out in each repeat; see `pasture.folds.repeated_folds`.

        Raises:
            InputError: more folds than the data have groups; cross-fitted pseudo-labels with several repeats.
        """
        return repeated_folds(dataset, self.splitter, self.folds, self.seed, self.repeats, self.stratify)

    @model_validator(mode="after")
    def _only_stratified(self) -> Self:
        if self.stratify != "total" and self.splitter != "stratified_group":
            raise ValueError(
                f"validation.stratify={self.stratify} needs validation.splitter=stratified_group, not {self.splitter}"
            )
        return self

    def assign(self, dataset: Dataset) -> Folds:
        """(n,) fold in which each image is held out in the first repeat; see `pasture.folds.make_folds`.

        Raises:
            InputError: more folds than the data have groups.
        """
        return make_folds(dataset, self.splitter, self.folds, self.seed, self.stratify)


class Inference(Section):
    """How a finished model predicts."""

    tta: TtaName = "d4"
    """Test-time augmentation: the mean over `none` (one element), `flips` (four) or `d4` (all eight)."""
