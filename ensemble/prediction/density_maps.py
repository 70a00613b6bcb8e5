"""Maps of a blend's density members: grams in each cell of a photograph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.prediction.photographs import chunks
from ensemble.prediction.run_models import ChunkRun, most_photographs, network_views
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.targets import TARGETS, Array
from trainables.compute.precision import best_device
from trainables.images import d4
from trainables.images.image_cache import Watch, silent
from trainables.images.views import view_boxes
from trainables.network.model import BiomassNet
from trainables.recipe.sections import TtaName, View


def density_members(blend: Blend) -> list[BlendMember]:
    """The members of a blend that predict grams for each cell.

    Raises:
        InputError: there are none.
    """
    members = [member for member in blend.members if member.recipe and member.recipe.dense]
    if not members:
        raise InputError(
            f"{blend.folder}: no member has a density head, so there are no grams per cell to draw; build the blend "
            "with trials of head.kind=density, or leave out --maps"
        )
    return members


def density_maps(
    blend: Blend, dataset: Dataset, tta: TtaName | None = None, watch: Watch = silent
) -> Iterator[tuple[str, Array]]:
    """Where the biomass of each photograph is, by the blend's members with a density head.

    A map is the mean over D4 elements, folds and members, which count with their weights in the blend. It is not scaled
    to the blend's prediction, in which other members have a part, nor projected onto the mass balance.

    Yields:
        The id of a photograph, and its map (height, width, 5) in grams per cell. Cells are those of the finest member.

    Raises:
        InputError, JobError: as `predict`, and where no member has a density head.
    """
    members = density_members(blend)
    shares = np.array([member.shares for member in members])  # (members, 5)
    total = shares.sum(axis=0)
    # A target for which no density member has a weight is drawn by their plain mean.
    shares = np.where(total > 0, shares / np.where(total > 0, total, 1), 1 / len(members))
    device, elements = best_device(), d4.tta_elements(tta or blend.tta)
    for chunk in chunks(dataset, network_views(blend), most_photographs(blend)):
        run = ChunkRun(blend, dataset.ids, chunk, elements, device, watch)
        maps = [_member_maps(run, member, elements) for member in members]
        height, width = (max(each.shape[axis] for each in maps) for axis in (1, 2))
        blended = sum(share * resized(each, height, width) for share, each in zip(shares, maps, strict=True))
        yield from zip(dataset.ids[chunk.rows], np.asarray(blended), strict=True)


@torch.inference_mode()
def _member_maps(run: ChunkRun, member: BlendMember, elements: tuple[int, ...]) -> Array:
    """(n, height, width, 5) grams per cell, the mean over folds and elements."""
    assert member.recipe is not None
    folds = []
    for model in run.models(member):
        cells = run.run(model, cast(BiomassNet, model.net).maps)  # (elements, n, views, cells, 5)
        folds.append(upright(cells, elements).mean(dim=0))
        del model  # before the next is built
    return composed(torch.stack(folds).mean(dim=0), member.recipe.view)


def upright(cells: Tensor, elements: tuple[int, ...]) -> Tensor:
    """(elements, n, views, cells, 5) under elements of D4 to square maps (elements, n, views, side, side, 5), turned
    back."""
    side = math.isqrt(cells.shape[3])
    squares = cells.view(*cells.shape[:3], side, side, cells.shape[4])
    return torch.stack([d4.apply(square, d4.inverse(e)) for square, e in zip(squares, elements, strict=True)])


def composed(views: Tensor, view: View) -> Array:
    """The maps of a photograph's views, laid where the views lie in the photograph.

    Args:
        views: (n, views, side, side, 5) grams per cell.
        view: how the photograph was cut.

    Returns:
        (n, height, width, 5) grams per cell; the cells are those of the smallest view. Sums stay the same.
    """
    boxes = view_boxes(view)
    side = views.shape[2]
    height, width = (round(side / min(extent)) for extent in ([b.height for b in boxes], [b.width for b in boxes]))
    canvas = np.zeros((len(views), height, width, len(TARGETS)))
    for box, cells in zip(boxes, views.numpy().swapaxes(0, 1), strict=True):
        rows, columns = round(box.height * height), round(box.width * width)
        top, left = round(box.y * height), round(box.x * width)
        canvas[:, top : top + rows, left : left + columns] += resized(cells, rows, columns)
    return canvas


def resized(maps: Array, height: int, width: int) -> Array:
    """(n, h, w, 5) grams per cell on a grid of (height, width) cells, without changing a sum.

    The grams of a cell are spread evenly over its area.
    """
    rows, columns = _overlaps(maps.shape[1], height), _overlaps(maps.shape[2], width)
    return np.asarray(np.einsum("Hh,Ww,nhwc->nHWc", rows, columns, maps, optimize=True))


def _overlaps(old: int, new: int) -> Array:
    """(new, old): the part of each old cell of a line that lies in each new cell."""
    edges, others = np.arange(new + 1) / new, np.arange(old + 1) / old
    upper, lower = np.minimum(edges[1:, None], others[None, 1:]), np.maximum(edges[:-1, None], others[None, :-1])
    return np.asarray(np.clip(upper - lower, 0, None) * old)
