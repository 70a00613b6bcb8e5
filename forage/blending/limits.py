"""Making a blend fit the machine that it predicts on: time, memory on disk, number of members."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendFile
from ensemble.prediction.half import store_half
from ensemble.prediction.prefix import Seconds, cost, first, head, measure, within
from forage.terminal.messages import say
from pasture.dataset import Dataset, read_train
from pasture.errors import InputError
from pasture.files import Folder
from pasture.run_folder import RunFolder
from trainables.recipe.sections import TtaName


def trimmed(
    blend: Blend, test: Dataset, tta: TtaName | None, max_members: int | None, max_seconds: float | None
) -> Blend:
    """The blend within a number of members and a time, with a line that says what that costs.

    Raises:
        InputError: a limit that not even one member meets.
    """
    count = len(blend.members) if max_members is None else min(max_members, len(blend.members))
    said = ""
    if max_seconds is not None:
        if not max_seconds > 0:
            raise InputError(f"--max-seconds {max_seconds:g}: expected a number above 0")
        seconds = measure(blend, test, tta)
        count = min(count, within(seconds, len(test), max_seconds))
        expected = seconds.of(len(test))
        said = f"; about {expected[count - 1]:.1f} s instead of {expected[-1]:.1f} s"
    if count < len(blend.members) or said:
        say(cost(blend, count) + said)
    return first(blend, count)


def after_build(blend: Blend, runs: Sequence[RunFolder], data: Path | None, half: bool, timed: bool) -> Blend:
    """Store backbones in half precision and measure the time of every prefix, as far as asked for.

    Args:
        blend: as it was built; its folder is changed.
        runs: that it was built from.
        data: their data folder; None for the one that the first run was made from.
        half: whether to store backbones in half precision.
        timed: whether to measure, and to add the seconds to blend.json.

    Raises:
        InputError: the photographs are not there.
    """
    if not (half or timed):
        return blend
    own = next((run for run in runs if not run.external), None)
    if data is None and own is None:
        raise InputError("--half and --time need photographs; give their folder with --data")
    dataset = read_train(data or Path(own.read_sweep()["data"]))  # type: ignore[union-attr]
    if half:
        blend = store_half(blend, dataset, say)
    if timed:
        seconds = measure(blend, head(dataset))
        blend = _with_seconds(blend, seconds)
    return blend


def prefix_table(blend: Blend) -> Table:
    """Score and time of the heaviest members alone."""
    table = Table(title="the heaviest members alone", title_justify="left")
    for name in ("members", "nested", "fitted", "seconds a photograph", "seconds to start"):
        table.add_column(name, justify="right")
    for each in blend.estimate["prefixes"]:
        nested = "-" if each["nested"] is None else f"{each['nested']:.4f}"
        times = [f"{each[name]:.3f}" for name in ("seconds_per_photograph", "seconds_to_start")]
        table.add_row(str(each["members"]), nested, f"{each['fitted']:.4f}", *times)
    return table


def _with_seconds(blend: Blend, seconds: Seconds) -> Blend:
    timed = [
        each | {"seconds_per_photograph": float(photograph), "seconds_to_start": float(start)}
        for each, photograph, start in zip(blend.estimate["prefixes"], seconds.photograph, seconds.loading, strict=True)
    ]
    content = BlendFile.read(blend.folder)
    dataclasses.replace(content, scores=content.scores | {"prefixes": timed}).write(Folder.at(blend.folder))
    return dataclasses.replace(blend, estimate=blend.estimate | {"prefixes": timed})
