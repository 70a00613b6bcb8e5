"""What each field of a search space does to the score on outer dates, over the recipes of a table.

    forage tabulate data/csiro --recipes 500 --splits 4 --out table.parquet
    python -m benchmarks.table_fields table.parquet [--where FIELD=CHOICE]

One row for every choice of a field, and for every third of a range. Printed: the number of recipes; the mean of their
R2 on the outer dates of all splits, one by one, with its standard error over recipes; the mean of their OOF scores on
the other dates; and the R2 on the outer dates of their plain mean. Fields are drawn independently of each other, so a
difference larger than its error is the field's. The luck of the dates is in no error. With --where, only recipes with
that choice count.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forage.replay.blend import outer_loss, pooled_r2
from forage.replay.table import Table
from pasture.errors import InputError
from pasture.targets import Array
from search_spaces.parameter import Label


class Row(NamedTuple):
    """Recipes that agree in a field.

    Attributes:
        field, label: the field, and its choice or range.
        entries: numbers of the recipes.
    """

    field: str
    label: str
    entries: list[int]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="written by `forage tabulate`")
    parser.add_argument("--where", default="", metavar="FIELD=CHOICE", help="such as loss.consistency=0.0")
    arguments = parser.parse_args()
    try:
        print(field_table(Table.read(arguments.table), arguments.where))
    except InputError as error:
        parser.error(str(error))


def field_table(table: Table, where: str = "") -> str:
    """The rows as a Markdown table. Recipes that failed on a split are left out.

    Args:
        table: the recipes.
        where: `FIELD=CHOICE` of the recipes that count; empty for all.

    Raises:
        InputError: no recipe has that choice.
    """
    field, _, choice = where.partition("=")
    trained = [
        number
        for number, entry in enumerate(table.entries)
        if (not where or str(entry.labels.get(field)) == choice)
        and all(split.trained[number] for split in table.splits)
    ]
    if not trained:
        raise InputError(
            f"--where {where}: no recipe of the table has it; expected FIELD=CHOICE as the table shows them"
        )
    outer = {number: _outer_r2(table, [number]) for number in trained}
    header = ["field", "choice or range", "recipes", "outer R2", "error", "OOF", "outer R2 of the mean"]
    lines = [header, ["---"] * len(header)]
    for row in rows(table, trained):
        singles = np.array([outer[number] for number in row.entries])
        error = f"{singles.std(ddof=1) / np.sqrt(len(singles)):.3f}" if len(singles) > 1 else ""
        scores = [t.scores[-1] for split in table.splits for n in row.entries if (t := split.trained[n])]
        values = [f"{singles.mean():.3f}", error, f"{np.mean(scores):.3f}", f"{_outer_r2(table, row.entries):.3f}"]
        lines.append([row.field, row.label, str(len(row.entries)), *values])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rows(table: Table, trained: list[int]) -> Iterator[Row]:
    """Every field's rows; recipes that do not have a field are in none of them."""
    for parameter in table.space.parameters:
        drawn = [(number, table.entries[number].labels.get(parameter.field)) for number in trained]
        known = [(number, label) for number, label in drawn if label is not None]
        numbers = np.array([number for number, _ in known])
        values: list[Label] = [label for _, label in known]
        if len(set(map(str, values))) > 6 and all(isinstance(value, int | float) for value in values):
            for low, high, inside in _thirds(np.array(values, dtype=float)):
                yield Row(parameter.field, f"{low:.3g} to {high:.3g}", numbers[inside].tolist())
        else:
            for label in sorted(set(map(str, values))):
                yield Row(parameter.field, label, [n for n, value in known if str(value) == label])


def _thirds(values: Array) -> Iterator[tuple[float, float, NDArray[np.intp]]]:
    """The lower, middle and upper third of the values: least, greatest, and which they are."""
    for inside in np.array_split(np.argsort(values, kind="stable"), 3):
        yield values[inside].min(), values[inside].max(), inside


def _outer_r2(table: Table, entries: list[int]) -> float:
    losses = [outer_loss(table, split, entries, "uniform") for split in table.splits]
    return pooled_r2(table.splits, losses)


if __name__ == "__main__":
    main()
