"""Whether one run, trial or blend is better than another beyond chance: paired over dates."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import NAME
from ensemble.estimate.evidence import Evidence
from ensemble.weighting.nested import standard_error
from pasture.errors import InputError
from pasture.files import Folder
from pasture.metric import total_ss, weighted_r2
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS, Array
from trainables.images.d4 import tta_elements
from tune.records.ledger import Ledger

LEVEL: Final = 0.95
FEWEST_DATES: Final = 5
_TRIAL: Final = re.compile(r"^(?P<run>.+):(?P<trial>t\d+)$")


@dataclass(frozen=True, eq=False)
class Result:
    """Predictions that can be compared.

    Attributes:
        name: as shown.
        note: what makes its score too high; empty where nothing does.
        image_ids: n ids.
        dates: (n,) sampling date of each image.
        truth: (n, 5) in grams.
        predictions: (repeats, n, 5) in grams.
    """

    name: str
    note: str
    image_ids: list[str]
    dates: NDArray[np.str_]
    truth: Array
    predictions: Array


@dataclass(frozen=True)
class Comparison:
    """Of two results, on the images that both have.

    Attributes:
        first, second: their names.
        first_score, second_score: R2 on these images.
        difference: R2 of the first less that of the second.
        error: standard error of the difference over dates; None where there are fewer than five dates.
        interval: 95 % interval of the difference, by Student's t over dates; None likewise.
        images: number of images.
        dates: number of dates.
    """

    first: str
    second: str
    first_score: float
    second_score: float
    difference: float
    error: float | None
    interval: tuple[float, float] | None
    images: int
    dates: int

    @property
    def sentence(self) -> str:
        """What the numbers say, in one plain sentence."""
        ahead, behind = (self.first, self.second) if self.difference >= 0 else (self.second, self.first)
        lead = f"{ahead} is ahead of {behind} by {abs(self.difference):.4f}"
        if self.interval is None:
            return f"{lead} on {self.dates} date(s): too few dates to say whether that is more than chance."
        low, high = self.interval if self.difference >= 0 else (-self.interval[1], -self.interval[0])
        beyond = "more than chance explains" if low > 0 else "which chance can explain"
        return f"{lead} (95 % interval {low:+.4f} to {high:+.4f} over {self.dates} dates), {beyond}."

    def to_dict(self) -> dict[str, Any]:
        """All fields and the sentence, as plain values."""
        return asdict(self) | {"sentence": self.sentence}


def read_result(location: str) -> Result:
    """The predictions at a location.

    Args:
        location: a blend folder: its nested predictions; RUN:TRIAL: the trial's OOF with its recipe's TTA; a run
            directory: those of its best trial.

    Raises:
        InputError: nothing that can be compared is there.
    """
    if Path(location, NAME).is_file():
        return _blend(Path(location))
    match = _TRIAL.match(location)
    run = RunFolder(match["run"] if match else location)
    if not run.folder.exists("sweep.yaml") and not run.external:
        raise InputError(f"{location}: neither a run, nor RUN:TRIAL such as runs/first:t0003, nor a blend folder")
    return _trial(run, match["trial"] if match else None, location)


def compare(first: Result, second: Result) -> Comparison:
    """Two results on the images that both have, paired by date.

    The difference of the R2 is the sum over dates of differences of losses; dates are taken as independent.

    Raises:
        InputError: they have no image in common, or other targets for one.
    """
    position = {image: i for i, image in enumerate(second.image_ids)}
    rows = [i for i, image in enumerate(first.image_ids) if image in position]
    others = [position[first.image_ids[i]] for i in rows]
    if not rows:
        raise InputError(f"{first.name} and {second.name} have no image in common; compare results of the same data")
    truth = first.truth[rows]
    if not np.allclose(truth, second.truth[others], atol=0.01):
        raise InputError(f"{first.name} and {second.name} have other targets for the same images; use the same data")
    dates = first.dates[rows]
    losses = [_losses(r.predictions[:, own], truth, dates) for r, own in ((first, rows), (second, others))]
    gain = (losses[1] - losses[0]) / total_ss(truth)
    difference, count = float(gain.sum()), len(gain)
    error = interval = None
    if count >= FEWEST_DATES:
        error = float(standard_error(gain))
        half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * error
        interval = (difference - half, difference + half)
    scores = [
        float(np.mean([weighted_r2(truth, p) for p in r.predictions[:, own]]))
        for r, own in ((first, rows), (second, others))
    ]
    return Comparison(first.name, second.name, scores[0], scores[1], difference, error, interval, len(rows), count)


def _losses(predictions: Array, truth: Array, dates: NDArray[np.str_]) -> Array:
    """(dates,) weighted squared error of each date, the mean over repeats."""
    loss = ((predictions - truth) ** 2 @ WEIGHTS).mean(axis=0)
    return np.asarray(np.bincount(np.unique(dates, return_inverse=True)[1], weights=loss), dtype=np.float64)


def _blend(folder: Path) -> Result:
    blend, evidence = Blend.read(folder), Evidence.read(Folder.at(folder))
    nested = len(evidence.unseen) > 0
    predictions = evidence.unseen if nested else evidence.blended(tta_elements(blend.tta))[None]
    note = "" if nested else f"{folder}: has no nested predictions; its score is fitted and too high"
    return Result(str(folder), note, evidence.image_ids, evidence.dates, evidence.truth, predictions)


def _trial(run: RunFolder, trial: str | None, location: str) -> Result:
    note = ""
    if trial is None:
        best = None if run.external else Ledger(run).best()
        if best is None:
            raise InputError(f"{location}: has no complete trial to compare; name a member as RUN:TRIAL")
        trial = best.name
        note = f"{location}: its best trial, {trial}, was chosen by this score, which is therefore a little too high"
    if not run.oof.exists(f"{trial}.parquet"):
        raise InputError(f"{location}: {run} has no predictions of {trial}; only complete trials can be compared")
    table = run.read_oof(trial)
    elements = tta_elements(table.metadata.get("recipe", {}).get("inference", {}).get("tta", "d4"))
    available = table.predictions.shape[1]
    predictions = table.mean(elements if max(elements) < available else (0,))
    truth = run.read_truth().loc[table.image_ids]
    dates = np.asarray(truth["date"], dtype=str)
    grams = truth[list(TARGETS)].to_numpy(dtype=np.float64)
    return Result(f"{run.name}:{trial}", note, table.image_ids, dates, grams, predictions[None])
