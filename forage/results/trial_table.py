"""The trials of a run as a table: which rows, in which order, with which columns."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import pandas as pd

from pasture.errors import InputError
from search_spaces.yaml_file import read_yaml

COLUMNS: Final = ("trial", "status", "score", "epochs", "seconds")
"""Columns that are always shown first, unless others are named."""
_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION: Final = re.compile(r"^\s*(\S+?)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*$")


def select(table: pd.DataFrame, where: str, sort: str, columns: Sequence[str]) -> pd.DataFrame:
    """Some rows and columns of `Ledger.table`.

    Args:
        table: of the trials.
        where: conditions such as `score > 0.6 and head.kind == mlp`, which must all hold; empty for all rows.
        sort: a column, largest first; with a minus in front, smallest first.
        columns: to show; empty for the usual ones and all recipe fields in which the trials differ.

    Raises:
        InputError: an unknown column, or a condition that cannot be read.
    """
    for condition in re.split(r"\s+and\s+", where.strip()) if where.strip() else []:
        table = table[_holds(table, condition)]
    key = sort.removeprefix("-")
    _check(table, key, "--sort")
    ascending = sort.startswith("-")
    table = table.sort_values(key, ascending=ascending, kind="stable", na_position="last")
    for column in columns:
        _check(table, column, "--columns")
    return table[list(columns) or _usual(table)]


def _holds(table: pd.DataFrame, condition: str) -> pd.Series:
    match = _CONDITION.match(condition)
    if not match:
        raise InputError(
            f"--where {condition!r}: expected COLUMN OPERATOR VALUE, such as score > 0.6 (== != < <= > >=)"
        )
    column, sign, text = match.groups()
    _check(table, column, "--where")
    value, own = read_yaml(text, f"--where {condition!r}"), table[column]
    if isinstance(value, list):
        own, value = own.astype(str), str(value)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if sign in ("==", "!="):
        alike = pd.to_numeric(own, errors="coerce") == value if numeric else own.astype(str) == str(value)
        return alike if sign == "==" else ~alike
    if not numeric:
        raise InputError(f"--where {condition!r}: {sign} compares numbers; expected one, got {text!r}")
    return pd.Series(_OPERATORS[sign](pd.to_numeric(own, errors="coerce"), value))


def _usual(table: pd.DataFrame) -> list[str]:
    fields = [name for name in table.columns if "." in name and table[name].astype(str).nunique() > 1]
    return [*COLUMNS, *fields]


def _check(table: pd.DataFrame, column: str, option: str) -> None:
    if column not in table.columns:
        part = column.rsplit(".", 1)[-1].lower()
        near = [name for name in table.columns if part in name.lower()][:5] or list(COLUMNS)
        raise InputError(f"{option} {column}: no such column; for example {', '.join(near)}")
