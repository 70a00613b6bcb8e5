"""Which of several runs, trials or blends are better than another beyond chance: paired over dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import NAME
from ensemble.estimate.evidence import Evidence
from ensemble.weighting.nested import standard_error
from forage.terminal.choices import Against
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
        p: two-sided p-value of the difference; None likewise.
        p_holm: the same, allowing for the number of comparisons (Holm, 1979); equal to p for a single one.
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
    p: float | None
    p_holm: float | None
    images: int
    dates: int

    @property
    def sentence(self) -> str:
        """What the numbers say, in one plain sentence."""
        if self.difference == 0:
            return f"{self.first} and {self.second} have the same score, {self.first_score:.4f}."
        ahead, behind = (self.first, self.second) if self.difference >= 0 else (self.second, self.first)
        lead = f"{ahead} is ahead of {behind} by {abs(self.difference):.4f}"
        if self.interval is None or self.p is None or self.p_holm is None:
            return f"{lead} on {self.dates} date(s): too few dates to say whether that is more than chance."
        low, high = self.interval if self.difference >= 0 else (-self.interval[1], -self.interval[0])
        verdict = "which chance can explain"
        if self.p_holm < 1 - LEVEL:
            verdict = "more than chance explains"
        elif self.p < 1 - LEVEL:
            verdict = "which chance can explain among so many comparisons"
        return f"{lead} (95 % interval {low:+.4f} to {high:+.4f} over {self.dates} dates), {verdict}."

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


def compare(results: Sequence[Result], against: Against = "first") -> list[Comparison]:
    """Every other result with one of them, on the images that all have, paired by date.

    The difference of the R2 is the sum over dates of differences of losses; dates are taken as independent. Where there
    are several comparisons, `p_holm` says which differences are more than chance explains.

    Args:
        results: two or more.
        against: which one the others are compared with: the first, or the one with the best score.

    Returns:
        One comparison for each of the others, in their order; `first` is the result that they are compared with.

    Raises:
        InputError: they have no image in common, or other targets for one.
    """
    results = _on_common_images(results)
    reference = results[0] if against == "first" else max(results, key=_score)
    found = [_pair(reference, other) for other in results if other is not reference]
    if any(comparison.p is None for comparison in found):
        return found
    adjusted = holm([comparison.p for comparison in found if comparison.p is not None])
    return [replace(comparison, p_holm=p) for comparison, p in zip(found, adjusted, strict=True)]


def remark(found: Sequence[Comparison], against: Against) -> str:
    """What to know of several comparisons together; empty for one, or where dates are too few for intervals."""
    if len(found) == 1 or any(comparison.p is None for comparison in found):
        return ""
    text = (
        f'{len(found)} comparisons: "more than chance explains" allows for their number (Holm, at 5 %); each '
        "interval is for its comparison alone."
    )
    if against == "best":
        text += " The best of several is partly luck, so its leads are a little too large."
    return text


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that allow for their number (Holm, Scandinavian Journal of Statistics 6, 1979), in the same order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _on_common_images(results: Sequence[Result]) -> list[Result]:
    """The results on the images that all have, in the order of the first."""
    first = results[0]
    positions = [{image: i for i, image in enumerate(result.image_ids)} for result in results]
    for result, position in zip(results[1:], positions[1:], strict=True):
        if not any(image in position for image in first.image_ids):
            raise InputError(
                f"{first.name} and {result.name} have no image in common; compare results of the same data"
            )
    ids = [image for image in first.image_ids if all(image in position for position in positions)]
    if not ids:
        raise InputError(f"{', '.join(r.name for r in results)}: have no image in common; compare fewer of them")
    common: list[Result] = []
    for result, position in zip(results, positions, strict=True):
        rows = [position[image] for image in ids]
        dates, truth, predictions = result.dates[rows], result.truth[rows], result.predictions[:, rows]
        part = replace(result, image_ids=ids, dates=dates, truth=truth, predictions=predictions)
        if common and not np.allclose(common[0].truth, part.truth, atol=0.01):
            raise InputError(f"{first.name} and {part.name} have other targets for the same images; use the same data")
        common.append(part)
    return common


def _pair(first: Result, second: Result) -> Comparison:
    """Two results on the same images."""
    gain = (_losses(second, first.dates) - _losses(first, first.dates)) / total_ss(first.truth)
    difference, count = float(gain.sum()), len(gain)
    error = interval = p = None
    if count >= FEWEST_DATES:
        error = float(standard_error(gain))
        half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * error
        interval = (difference - half, difference + half)
        p = float(2 * t.sf(abs(difference) / error, count - 1)) if error > 0 else float(difference == 0)
    scores, size = (_score(first), _score(second)), len(first.image_ids)
    return Comparison(
        first.name, second.name, scores[0], scores[1], difference, error, interval, p, p, images=size, dates=count
    )


def _score(result: Result) -> float:
    """R2, the mean over repeats."""
    return float(np.mean([weighted_r2(result.truth, predictions) for predictions in result.predictions]))


def _losses(result: Result, dates: NDArray[np.str_]) -> Array:
    """(dates,) weighted squared error of each date, the mean over repeats."""
    loss = ((result.predictions - result.truth) ** 2 @ WEIGHTS).mean(axis=0)
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
        note = f"{location}: its best trial, {trial}, was chosen by score; its score here is a little too high"
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
