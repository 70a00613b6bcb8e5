"""The strategies that are compared: which sweeps they need, and how a blend is chosen from a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pasture.errors import InputError
from search_spaces.catalogue import load_space
from search_spaces.space import Space
from tune.records.plan import Limits, Search

OURS: Final = "search"
ONE_RECIPE: Final = "one-recipe"

BUILT_IN: Final = {
    ONE_RECIPE: "the base recipe of the space, trained once",
    "random": "random search, no trial pruned",
    "random+asha": "random search, pruned by ASHA",
    "optuna+asha": "Optuna's TPE on the score, pruned by ASHA, without start recipes",
}
"""Strategies that need sweeps of their own."""


@dataclass(frozen=True)
class Sweep:
    """One kind of sweep; it runs once for every seed and every group of dates.

    Attributes:
        name: in the table and in the names of run directories.
        space: what is searched.
        limits: options of the sweep, without the outer dates.
        search: how trials are proposed.
    """

    name: str
    space: Space
    limits: Limits
    search: Search = "optuna"


def sweeps(space: Space, limits: Limits, against: Sequence[str]) -> list[Sweep]:
    """The sweep that is judged and those that it is compared with.

    Args:
        space: of the sweep that is judged.
        limits: its options. Others have the same budget.
        against: names of `BUILT_IN`, or other spaces: names or files.

    Raises:
        InputError: a name that is neither, or one that is given twice.
    """
    if repeated := next((word for word in against if list(against).count(word) > 1), None):
        raise InputError(f"--against {repeated}: given twice")
    return [Sweep(OURS, space, limits), *(_other(word, space, limits) for word in against)]


def _other(word: str, space: Space, limits: Limits) -> Sweep:
    plain = limits.model_copy(update={"start": False, "objective": "score", "confirm": 0, "warm_start": None})
    if word == ONE_RECIPE:
        alone = plain.model_copy(update={"trials": 1, "promote": None, "pruner": "none"})
        return Sweep(word, Space(space.base, resources=space.resources), alone, "random")
    if word == "random":
        return Sweep(word, space, plain.model_copy(update={"pruner": "none", "promote": None}), "random")
    if word == "random+asha":
        return Sweep(word, space, plain.model_copy(update={"pruner": "asha"}), "random")
    if word == "optuna+asha":
        return Sweep(word, space, plain.model_copy(update={"pruner": "asha"}))
    try:
        return Sweep(word, load_space(word), limits)
    except InputError as error:
        raise InputError(f"--against {word}: expected one of {', '.join(BUILT_IN)}, or a space ({error})") from None
