"""The image cache against decoding in every epoch, and against reading the same bytes with numpy: the limit.

An epoch is one look at every photograph of 2000 x 1000 pixels, in batches of 16 in random order, cut into halves at 256
pixels. The limit reads the same bytes, in the same order, out of a plain array in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.table import Options, Row, main, photographs
from benchmarks.timing import pairs, seconds
from pasture.dataset import read_train
from pasture.verification import verify
from trainables.images.image_cache import cached_views
from trainables.images.views import load_views
from trainables.recipe.sections import View

BATCH = 16


def measure(options: Options) -> Iterator[Row]:
    """Two rows."""
    images, repeats = (12, 1) if options.quick else (72, 15)
    view = View(kind="halves", size=32 if options.quick else 256)
    with photographs(options, images, **({"width": 128, "height": 64} if options.quick else {})) as data:
        dataset = verify(read_train(data))
        paths = dataset.paths
        order = np.random.default_rng(0).permutation(len(dataset))
        batches = np.array_split(order, -(-len(order) // BATCH))
        decoding, decoded = seconds(lambda: [np.stack([load_views(paths[row], view) for row in b]) for b in batches])
        building, cache = seconds(lambda: cached_views(dataset, view))
        resident = np.array(cache)

        def epoch(source: np.ndarray) -> Callable[[], list[np.ndarray]]:
            return lambda: [source[batch] for batch in batches]

        told = pairs(epoch(cached_views(dataset, view)), epoch(resident), repeats)
    for ours, theirs in zip(told.our_result, decoded, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    rate = len(dataset) / told.our_seconds
    yield Row(
        f"image cache against decoding, {len(dataset)} photographs (built in {building:.1f} s)",
        f"{rate:,.0f} photographs/s",
        f"{len(dataset) / decoding:,.1f} photographs/s (decode, cut, resize)",
        decoding / told.our_seconds,
        "image_cache",
    )
    yield Row(
        "image cache against the same bytes in memory",
        f"{rate:,.0f} photographs/s",
        f"{len(dataset) / told.their_seconds:,.0f} photographs/s (numpy array)",
        told.ratio,
        "image_cache",
    )


if __name__ == "__main__":
    main(measure, __doc__ or "")
