"""How a blend's members were chosen, step by step, for the methods that add one member after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.weighting.best_k import best_k, held_out_losses
from ensemble.weighting.greedy import greedy
from ensemble.weighting.library import Library
from ensemble.weighting.methods import admitted
from ensemble.weighting.options import MethodName, Options


@dataclass(frozen=True)
class Steps:
    """The members in the order in which they were added, and the score after each.

    Attributes:
        members: positions in the library; of members that differ only in their seed, the first.
        scores: R2 of the mean of the members so far, one for each step; with `best-k`, backbones weigh the same in it.
        kept: number of steps that the blend is made of.
        held_out: whether each date was scored by members that were ranked without it; else scores are on the images
            that the members were chosen by.
    """

    members: tuple[int, ...]
    scores: tuple[float, ...]
    kept: int
    held_out: bool


def steps(name: MethodName, library: Library, options: Options) -> Steps | None:
    """The steps of `best-k` and of `greedy`; None for methods without steps, with bags, or with a single date.

    Args:
        name: of the method that the blend is made by.
        library: all members.
        options: as the blend's.
    """
    first = np.unique(library.recipe_number, return_index=True)[1]
    means = library.mean_over_seeds()
    if name == "greedy" and not options.bags:
        selection = greedy(means.gram, means.backbones, options)
        path = tuple(int(first[i]) for i in selection.path)
        return Steps(path, tuple(map(float, selection.curve)), selection.prefix, held_out=False)
    if name != "best-k" or len(library.days) < 2:
        return None
    kept = admitted(means, options)
    part = means.members(kept)
    residuals = part.gram.residuals.reshape(len(part), *part.truth.shape)
    order = np.argsort(part.gram.diagonal, kind="stable")
    scores = 1 - held_out_losses(residuals, part.day, part.backbones).sum(axis=0) / part.gram.total
    chosen = len(best_k(residuals, part.day, part.backbones))
    return Steps(tuple(int(first[kept[i]]) for i in order), tuple(map(float, scores)), chosen, held_out=True)
