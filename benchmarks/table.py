"""The benchmark table: what a row is, how rows are printed, and the command line that all scripts share."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pasture.synthetic import make_data


@dataclass(frozen=True)
class Row:
    """One ratio, measured in one run.

    Attributes:
        what: was measured.
        forage: its figure, with a unit.
        against: what it was held against, and that figure.
        ratio: as `goal` counts it.
        script: that measures it again.
        at_least, at_most: the goal for the ratio; neither where there is none.
    """

    what: str
    forage: str
    against: str
    ratio: float
    script: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str:
        """The goal and whether it is met."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g} {'met' if self.ratio >= self.at_least else 'missed'}"
        if self.at_most is not None:
            return f"≤ {self.at_most:g} {'met' if self.ratio <= self.at_most else 'missed'}"
        return ""


@dataclass(frozen=True)
class Options:
    """What a script was called with.

    Attributes:
        data: data folder; None for synthetic photographs.
        quick: everything tiny, to see that it runs; its figures mean nothing.
    """

    data: Path | None = None
    quick: bool = False


Measure = Callable[[Options], Iterable[Row]]


def main(measure: Measure, description: str) -> None:
    """The command line of a script: prints its rows as a table, or with --json one object a line."""
    options, as_json = parse(description)
    if as_json:
        for row in measure(options):
            print(json.dumps(asdict(row)), flush=True)
    else:
        print(table(list(measure(options)), options))


def parse(description: str) -> tuple[Options, bool]:
    """Options from the command line, and whether JSON was asked for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="data folder with real photographs; synthetic ones by default")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; the figures mean nothing"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    arguments = parser.parse_args()
    return Options(arguments.data, arguments.quick), arguments.json


def table(rows: list[Row], options: Options) -> str:
    """Rows as Markdown, each with the command that prints it again."""
    more = (f" --data {options.data}" if options.data else "") + (" --quick" if options.quick else "")
    cells = [("what", "forage", "against", "ratio", "goal", "command")]
    cells += [
        (row.what, row.forage, row.against, number(row.ratio), row.goal, f"python -m benchmarks.{row.script}{more}")
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@contextmanager
def photographs(options: Options, images: int, *, width: int = 2000, height: int = 1000) -> Iterator[Path]:
    """A data folder, synthetic unless one was given, with an empty cache beside it; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="forage-bench-", ignore_cleanup_errors=True) as scratch:
        before = os.environ.get("FORAGE_CACHE")
        os.environ["FORAGE_CACHE"] = f"{scratch}/cache"
        try:
            if options.data is None:
                make_data(Path(scratch, "data"), images=images, width=width, height=height)
            yield options.data or Path(scratch, "data")
        finally:
            os.environ.pop("FORAGE_CACHE")
            if before is not None:
                os.environ["FORAGE_CACHE"] = before
