"""Label-distribution smoothing (LDS): weights of training images in the loss (Yang et al., Delving into Deep
Imbalanced Regression, ICML 2021, section 3.1)."""

from __future__ import annotations

import numpy as np

from pasture.targets import Array
from trainables.recipe.sections import LabelSmoothing


def image_weights(totals: Array, pseudo_weights: Array, config: LabelSmoothing) -> Array:
    """Weight of each training image in the loss: its LDS weight, if enabled, times the weight of its pseudo-label.

    Args:
        totals: (n,) Dry_Total_g of the training fold only.
        pseudo_weights: (n,) 1 for a measured image, less for a pseudo-label.
        config: of LDS.

    Returns:
        (n,) positive weights with mean 1.
    """
    weights = (lds_weights(totals, config) if config.enabled else 1.0) * pseudo_weights
    return np.asarray(weights / weights.mean())


def lds_weights(labels: Array, config: LabelSmoothing) -> Array:
    """Weight of each label: the inverse, or its square root, of the kernel-smoothed label density.

    Args:
        labels: (n,) weights in grams, of the training fold only.
        config: bins, kernel and reweighting.

    Returns:
        (n,) positive weights with mean 1.
    """
    bins = (labels // config.bin_g).astype(int)
    counts = np.bincount(bins)
    kernel = smoothing_kernel(config)
    half = len(kernel) // 2
    density = np.convolve(np.pad(counts, half), kernel, mode="valid")[bins]
    weights = 1.0 / (density if config.reweighting == "inverse" else np.sqrt(density))
    return np.asarray(weights / weights.mean())


def smoothing_kernel(config: LabelSmoothing) -> Array:
    """(size,) symmetric kernel over histogram bins with sum 1."""
    offset = np.arange(config.size, dtype=np.float64) - config.size // 2
    if config.kernel == "gaussian":
        kernel = np.exp(-0.5 * (offset / config.sigma) ** 2)
    elif config.kernel == "laplace":
        kernel = np.exp(-np.abs(offset) / config.sigma)
    else:
        kernel = 1.0 - np.abs(offset) / (config.size // 2 + 1)
    return np.asarray(kernel / kernel.sum())
