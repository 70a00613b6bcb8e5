"""How time and memory grow: with trials (64, 512, 2,000), members (50, 500, 5,000) and pictures (100, 1,000, 10,000).

Each row's ratio is the mean cost of one at the largest size over that at the smallest: 1 means that it grows in
proportion. For the driver's memory, its peak, it is the one over the other: 1 means that it does not grow. Trials do
nothing (benchmarks/trivial.py). Members have OOF of 357 images
under D4 and of 10 epochs; loading and 100 steps of selection are timed. Pictures are synthetic, of 64 pixels; checking
them and filling the image cache are timed. Draws docs/images/growth.svg unless --quick.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.selection import make_members
from benchmarks.table import Options, Row, main, photographs
from benchmarks.timing import seconds
from ensemble.members.load import load_members
from ensemble.weighting.greedy import Gram, greedy
from ensemble.weighting.options import Options as SelectionOptions
from pasture.dataset import Dataset, read_train
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array
from pasture.verification import verify
from trainables.images.image_cache import cached_views
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import View

PLOT = Path(__file__).parents[1] / "docs" / "images" / "growth.svg"
EPOCHS, DATES = 10, 28


@dataclass(frozen=True)
class Series:
    """Costs at growing sizes.

    Attributes:
        what: is done.
        of: what there is more of.
        sizes: how many.
        costs: seconds, or megabytes.
        unit: s or MB.
    """

    what: str
    of: str
    sizes: tuple[int, ...]
    costs: tuple[float, ...]
    unit: str = "s"

    def row(self) -> Row:
        """Of the benchmark table."""
        small, large = (f"{self.costs[i]:.3g} {self.unit} for {self.sizes[i]:,}" for i in (0, -1))
        ratio = self.costs[-1] / self.costs[0]
        if self.unit == "s":
            ratio *= self.sizes[0] / self.sizes[-1]
        return Row(f"growth, {self.what}", large, small, ratio, "growth")


def measure(options: Options) -> Iterator[Row]:
    """A row a series."""
    found = []
    for some in (
        trials((2, 4) if options.quick else (64, 512, 2_000)),  # first: before others have raised the peak of memory
        members((4, 8) if options.quick else (50, 500, 5_000)),
        pictures((10, 20) if options.quick else (100, 1_000, 10_000)),
    ):
        for series in some:
            found.append(series)
            yield series.row()
    if not options.quick:
        plot(found, PLOT)


def pictures(sizes: tuple[int, ...]) -> Iterator[Series]:
    """Checking pictures and filling the image cache."""
    checking, filling = [], []
    for size in sizes:
        with photographs(Options(), size, width=64, height=64) as data:
            table = read_train(data)
            taken, dataset = seconds(lambda table=table: verify(table))  # type: ignore[misc]
            checking.append(taken)
            filling.append(seconds(lambda: cached_views(dataset, View(kind="whole", size=32)))[0])  # noqa: B023
    yield Series("checking pictures", "pictures", sizes, tuple(checking))
    yield Series("filling the image cache", "pictures", sizes, tuple(filling))


def members(sizes: tuple[int, ...]) -> Iterator[Series]:
    """Loading the finished trials of a run, and selecting among them."""
    loading, selecting = [], []
    for size in sizes:
        truth, predictions = make_members(size)
        with tempfile.TemporaryDirectory() as scratch:
            run = write_run(Path(scratch), truth, predictions)
            loading.append(seconds(lambda run=run: load_members([run], "d4"))[0])  # type: ignore[misc]
        gram, names = Gram(truth, predictions), [f"b{i % 10}" for i in range(size)]
        selecting.append(seconds(lambda: greedy(gram, names, SelectionOptions(steps=100)))[0])  # noqa: B023
    yield Series("loading members", "members", sizes, tuple(loading))
    yield Series("100 steps of selection", "members", sizes, tuple(selecting))


def trials(sizes: tuple[int, ...]) -> Iterator[Series]:
    """A sweep of trials that do nothing, and the driver's memory."""
    taken, memory = [], []
    with harness.session() as scratch:
        harness.forage(scratch, sizes[0], 1)  # what is loaded once is loaded
        for size in sizes:
            taken.append(seconds(lambda size=size: harness.forage(scratch, size, 1))[0])  # type: ignore[misc]
            memory.append(peak_mb())
    yield Series("trivial trials", "trials", sizes, tuple(taken))
    yield Series("peak memory of the driver", "trials", sizes, tuple(memory), "MB")


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_run(folder: Path, truth: Array, predictions: Array) -> RunFolder:
    """A run directory with a finished trial for each of (m, n, 5) predictions."""
    n, rng = len(truth), np.random.default_rng(0)
    day = np.arange(n) * DATES // n
    images = pd.DataFrame(truth, index=[f"ID{i:09}" for i in range(n)], columns=list(TARGETS))
    images.insert(0, "date", pd.Timestamp("2015-01-01") + pd.to_timedelta(day, unit="D"))
    run = RunFolder(folder / "run")
    run.write_truth(Dataset(folder, images))
    curve = [{"epoch": epoch + 1, "epoch_score": 0.5, "score": 0.5} for epoch in range(EPOCHS)]
    content = {"recipe": Recipe().to_dict(), "epoch": EPOCHS - 1, "fingerprint": "f" * 64, "curve": curve}
    with mock.patch.object(os, "fsync"):  # these files need not outlive the machine
        for number, member in enumerate(predictions):
            elements = member[:, None] + rng.normal(size=(n, 8, len(TARGETS)))
            table = OofTable(
                list(images.index), (day % 5).astype(np.int8), elements, content | {"recipe_hash": f"{number}"}
            )
            table.write(run.oof, f"t{number:04d}.parquet")
            run.write_epochs(f"t{number:04d}", member + rng.normal(size=(EPOCHS, *member.shape)))
    return run


def plot(found: list[Series], path: Path) -> None:
    """Every series, with the line on which cost grows in proportion, as SVG."""
    from matplotlib.figure import Figure

    columns = -(-len(found) // 2)
    figure = Figure(figsize=(4 * columns, 6), layout="constrained")
    for axes, series in zip(figure.subplots(2, columns).T.flat, found, strict=False):
        axes.plot(series.sizes, series.costs, "o-")
        axes.plot(series.sizes, [series.costs[0] * size / series.sizes[0] for size in series.sizes], ":", color="grey")
        axes.set(title=series.what, xlabel=series.of, ylabel=series.unit, xscale="log", yscale="log")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main(measure, __doc__ or "")
