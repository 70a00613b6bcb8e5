"""What training one recipe needs beside the recipe: the data, a device, and where to share work and report progress."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pasture.files import Folder
from pasture.verification import VerifiedDataset
from trainables.images.image_cache import Watch, silent


@dataclass(frozen=True)
class TrialContext:
    """Where a recipe is trained and on what.

    Attributes:
        dataset: the photographs.
        device: where to compute.
        shared: folder that all nodes of a cluster can reach, in which they compute feature banks together; None on a
            single node.
        watch: callback for the progress of decoding pictures and extracting features.
    """

    dataset: VerifiedDataset
    device: torch.device
    shared: Folder | None = None
    watch: Watch = silent
