"""The teacher for distillation: predicts weights from NDVI, height, month and species, without the picture."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pasture.targets import Array
from trainables.network.target_codec import TargetCodec
from trainables.recipe.sections import Target
from trainables.recipe.seeds import torch_seed
from trainables.training.metadata import standardise, teacher_inputs

_HIDDEN: Final = (128, 64)
_STEPS, _RATE, _DECAY = 300, 1e-2, 1e-2


def teach(images: pd.DataFrame, grams: Array, rows: np.ndarray, seed: int) -> Tensor:
    """Fit the teacher to the training rows and return its predictions for them: (rows, 5) in grams.

    An MLP (inputs, 128, 64, 4, GELU) for Total, GDM, Green and Clover. It is fitted to the training fold only.

    Args:
        images: metadata of all images; only `rows` are read.
        grams: (n, 5) truth of all images; only `rows` are read.
        rows: the training rows.
        seed: seed of the initial weights.
    """
    # Of these rows only: a species tag of another row would add a column and change the initial weights.
    inputs = np.nan_to_num(standardise(teacher_inputs(images.iloc[rows]), np.arange(len(rows))))
    x, y = torch.from_numpy(inputs).float(), torch.from_numpy(grams[rows]).float()
    codec = TargetCodec(Target(kind="four", transform="log1p_z"))
    codec.fit(y)
    with torch_seed(seed, torch.device("cpu")):
        net = nn.Sequential(
            nn.Linear(x.shape[1], _HIDDEN[0]),
            nn.GELU(),
            nn.Linear(_HIDDEN[0], _HIDDEN[1]),
            nn.GELU(),
            nn.Linear(_HIDDEN[1], codec.outputs),
        )
        optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
        for _ in range(_STEPS):
            optimizer.zero_grad()
            F.huber_loss(net(x), codec.encode(y)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.inference_mode():
        return codec.decode(net(x)).clamp(min=0).clone()
