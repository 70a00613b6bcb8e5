"""Metadata of photographs as numbers: NDVI, height, date and species."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
import pandas as pd

from pasture.targets import Array

GROUPS: Final = {
    "grass": ("Barley", "Brome", "Fescue", "Phalaris", "Rye", "Silver", "Spear"),
    "clover": ("White", "Subclover", "Clover"),
    "legume": ("Lucerne",),
    "broadleaf": ("Capeweed", "Crumbweed"),
}
"""Group to prefixes of the species names that belong to it, compared without case."""


def species_tags(species: str) -> set[str]:
    """The names in a species label, which joins them by "_", in lower case, and the groups that they belong to.

    A name without a known group is a tag of its own, with a warning. An empty label has no tags.
    """
    tags = set()
    for name in filter(None, species.split("_")):
        tags.add(name.lower())
        groups = {g for g, starts in GROUPS.items() if name.lower().startswith(tuple(s.lower() for s in starts))}
        if not groups:
            warnings.warn(f"species {name!r} belongs to no known group; it becomes a tag of its own", stacklevel=2)
        tags |= groups
    return tags


def auxiliary_targets(images: pd.DataFrame) -> Array:
    """(n, 2) NDVI and height in cm; NaN if not measured."""
    return images[["ndvi", "height_cm"]].to_numpy(dtype=np.float64)


def teacher_inputs(images: pd.DataFrame) -> Array:
    """(n, d) NDVI, height, their product, the month as sine and cosine, one column per species tag; NaN if missing."""
    measured = auxiliary_targets(images)
    month = 2 * np.pi * (images["date"].dt.month.to_numpy() - 1) / 12
    tags = [species_tags(str(species)) for species in images["species"]]
    names = sorted(set().union(*tags))
    hot = np.array([[name in tag for name in names] for tag in tags], dtype=np.float64)
    return np.column_stack([measured, measured.prod(axis=1), np.sin(month), np.cos(month), hot])


def standardise(values: Array, rows: np.ndarray) -> Array:
    """All rows, standardised to mean 0 and standard deviation 1 over the training `rows`, column by column."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column with nothing measured stays NaN
        mean, std = np.nanmean(values[rows], axis=0), np.nanstd(values[rows], axis=0)
    return np.asarray((values - mean) / np.where(std > 1e-9, std, 1.0))
