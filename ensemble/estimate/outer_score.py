"""The outer score of the procedure that made a blend, from what `forage outer-cv` wrote."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from scipy.stats import t

from pasture.errors import InputError

NAME: Final = "outer-cv.json"
"""In the folder of `forage outer-cv`: its table as JSON, and the `date_names` that were held out."""
_LEVEL: Final = 0.95


@dataclass(frozen=True)
class OuterScore:
    """Score of a procedure on dates that neither its search nor its blend has seen.

    Attributes:
        strategy: its name in the table of `forage outer-cv`.
        r2: over all outer dates.
        error: standard error over dates.
        dates: how many.
        seeds: how often the dates were divided into groups, with a search for each group.
    """

    strategy: str
    r2: float
    error: float
    dates: int
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval: Student's quantiles for a standard error over dates."""
        half = self.error * float(t.ppf((1 + _LEVEL) / 2, self.dates - 1))
        return self.r2 - half, self.r2 + half

    @classmethod
    def read(cls, folder: Path, method: str, refitted: bool, dates: Collection[str]) -> Self:
        """Read the score of a blending method.

        Args:
            folder: of `forage outer-cv`.
            method: of the blend.
            refitted: whether every member of the blend is one model trained on all dates; the score of such blends is
                taken where there is one.
            dates: those of the blend's images.

        Raises:
            InputError: no outer-cv.json, a damaged one, one of other dates, or one without the method.
        """
        file = folder / NAME
        if not file.is_file():
            raise InputError(f"--outer-cv {folder}: has no {NAME}; give the --out folder of a finished forage outer-cv")
        try:
            content = json.loads(file.read_text())
            rows: dict[str, dict[str, Any]] = {row["strategy"]: row for row in content["rows"]}
            if set(content["date_names"]) != set(dates):
                raise InputError(
                    f"--outer-cv {folder}: made on {len(content['date_names'])} dates, which are not the "
                    f"{len(set(dates))} of the blend; give one of the same data"
                )
            names = [f"search: {method}, refitted"] * refitted + [f"search: {method}"]
            name = next((name for name in names if name in rows), None)
            if name is None:
                raise InputError(f"--outer-cv {folder}: has no score of {names[-1]!r}; it has {', '.join(rows)}")
            own = rows[name]
            return cls(name, float(own["outer"]), float(own["error"]), int(content["dates"]), int(content["seeds"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: damaged ({type(error).__name__}: {error}); run forage outer-cv again") from None
