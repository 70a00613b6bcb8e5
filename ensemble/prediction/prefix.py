"""The heaviest members of a blend alone: within a number of members, or within a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.estimate.prefixes import heaviest
from ensemble.prediction.photographs import chunks
from ensemble.prediction.run_models import ChunkRun, network_views
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.targets import WEIGHTS, Array
from trainables.compute.precision import best_device
from trainables.images import d4
from trainables.images.image_cache import silent
from trainables.recipe.sections import TtaName

PROBE: Final = 8
"""Photographs on which the time of the members is measured."""


def first(blend: Blend, count: int) -> Blend:
    """The blend of its heaviest members alone, whose weights sum to what those of all did.

    Raises:
        InputError: fewer than one.
    """
    if count < 1:
        raise InputError(f"--max-members {count}: expected at least 1")
    if count >= len(blend.members):
        return blend
    weights = heaviest(np.stack([member.shares for member in blend.members]), count)
    chosen = [_with_weights(member, row) for member, row in zip(blend.members, weights, strict=True) if row.any()]
    return dataclasses.replace(blend, members=tuple(chosen))


@dataclass(frozen=True)
class Seconds:
    """How long the prefixes of a blend take.

    Attributes:
        loading: (m,) seconds of the first 1, 2, ... members that do not depend on the number of photographs, as far as
            one photograph shows them: reading weights, building networks.
        photograph: (m,) that each photograph adds.
    """

    loading: Array
    photograph: Array

    def of(self, photographs: int) -> Array:
        """(m,) seconds to predict a number of photographs."""
        return np.asarray(self.loading + photographs * self.photograph)


def measure(blend: Blend, dataset: Dataset, tta: TtaName | None = None) -> Seconds:
    """Measure, on this machine, how long the first 1, 2, ... members take.

    The members predict one photograph, then up to 8, and the line through both times is drawn out. Members count in
    their order, so that a backbone counts for the first member that needs it. An external member takes no time.

    Args:
        blend: the members, heaviest first.
        dataset: photographs; the first of them are predicted.
        tta: test-time augmentation; the blend's own by default.

    Raises:
        InputError, JobError: as `predict`.
    """
    few, many = 1, min(PROBE, len(dataset))
    _elapsed(blend, head(dataset, few), tta)  # the first run is slower: libraries load, files are read
    one = _elapsed(blend, head(dataset, few), tta)
    more = _elapsed(blend, head(dataset, many), tta) if many > few else one
    each = np.maximum.accumulate(np.maximum(0.0, (more - one) / max(1, many - few)))
    if many == few:
        each = one
    return Seconds(np.maximum(0.0, one - each), each)


def within(seconds: Seconds, photographs: int, limit: float) -> int:
    """How many of the heaviest members predict a number of photographs within a time.

    Raises:
        InputError: not even the first one does.
    """
    expected = seconds.of(photographs)
    count = int((expected <= limit).sum())
    if not count:
        raise InputError(
            f"--max-seconds {limit:g}: the heaviest member alone takes about {expected[0]:.1f} s for {photographs} "
            "photographs; allow more, or use less test-time augmentation (--tta none)"
        )
    return count


def cost(blend: Blend, count: int) -> str:
    """Message on the nested score that is lost by keeping only the heaviest members, where the blend has one."""
    scores: Mapping[int, dict[str, float]] = {each["members"]: each for each in blend.estimate.get("prefixes", [])}
    said = f"{count} of {len(blend.members)} members"
    if count == len(blend.members) or count not in scores or scores[count]["nested"] is None:
        return said
    return f"{said}: nested R2 {scores[count]['nested']:.4f} instead of {blend.estimate['nested']:.4f}"


def _elapsed(blend: Blend, dataset: Dataset, tta: TtaName | None) -> Array:
    """(m,) seconds until the first 1, 2, ... members have predicted."""
    marks: list[float] = []
    elements = d4.tta_elements(tta or blend.tta)
    start = time.perf_counter()
    for chunk in chunks(dataset, network_views(blend)):
        run = ChunkRun(blend, dataset.ids, chunk, elements, best_device(), silent)
        marks = [*_marks(run, blend, start)]
    return np.array(marks)


def _marks(run: ChunkRun, blend: Blend, start: float) -> Iterator[float]:
    for member in blend.members:
        if member.recipe:
            run.member(member)
        yield time.perf_counter() - start


def head(dataset: Dataset, count: int = PROBE) -> Dataset:
    """The first photographs."""
    return dataclasses.replace(dataset, images=dataset.images.iloc[:count])


def _with_weights(member: BlendMember, weights: Array) -> BlendMember:
    if not member.target_weights:
        return dataclasses.replace(member, weight=min(1.0, float(weights[0])))
    return dataclasses.replace(member, weight=float(weights @ WEIGHTS), target_weights=tuple(weights.tolist()))
