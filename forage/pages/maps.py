"""Density maps of some photographs of a blend, as pictures for its page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from ensemble.blend.blend import Blend
from ensemble.prediction.density_maps import density_maps
from ensemble.prediction.map_pictures import draw
from pasture.dataset import Dataset
from pasture.pictures import read_pixels
from trainables.images.views import Picture


def has_density(blend: Blend) -> bool:
    """Whether a member has a density head."""
    return any(member.recipe is not None and member.recipe.dense for member in blend.members)


def map_pictures(blend: Blend, data: Dataset, ids: Sequence[str]) -> list[str]:
    """The density maps of some photographs as JPEG data URIs, without test-time augmentation.

    Args:
        blend: with a member that has a density head.
        data: labelled photographs.
        ids: of the photographs.

    Raises:
        InputError: a photograph cannot be read, or a model is missing or damaged.
        JobError: the models cannot run.
    """
    chosen = Dataset(data.root, data.images.loc[list(ids)])
    maps = dict(density_maps(blend, chosen, "none"))
    return [_picture(draw(read_pixels(path), maps[i])) for i, path in zip(chosen.ids, chosen.paths, strict=True)]


def _picture(pixels: Picture) -> str:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
