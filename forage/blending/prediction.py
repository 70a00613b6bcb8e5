"""Predicting with a blend within limits, and the files about a prediction that `forage predict` can write beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ensemble.blend.blend import Blend
from ensemble.members.prediction_file import read_given
from ensemble.prediction.density_maps import density_maps, density_members
from ensemble.prediction.map_pictures import write_map_pictures
from ensemble.prediction.predict import predict
from ensemble.prediction.uncertainty import predict_in_detail, write_members, write_uncertainty
from forage.blending.limits import trimmed
from forage.terminal.bars import bars
from forage.terminal.messages import say, warn
from pasture.dataset import Dataset
from pasture.targets import Array
from trainables.recipe.sections import TtaName


@dataclass(frozen=True)
class Files:
    """What to write beside a prediction; None for nothing.

    Attributes:
        members: a CSV file with the prediction of each member.
        uncertainty: a CSV file with spreads and intervals.
        maps: a folder of pictures with grams per cell.
    """

    members: Path | None = None
    uncertainty: Path | None = None
    maps: Path | None = None


@dataclass(frozen=True)
class Limits:
    """How much of a blend predicts; None for no limit.

    Attributes:
        members: so many of the heaviest members.
        seconds: as many of the heaviest members as this time allows, by a measurement.
    """

    members: int | None = None
    seconds: float | None = None


def predict_within(
    blend: Blend, test: Dataset, tta: TtaName | None, given: dict[str, Path], limits: Limits, files: Files
) -> Array:
    """(n, 5) grams in the order of `test.ids`, after writing what `files` names; progress goes to standard error.

    Raises:
        InputError, JobError: as `ensemble.prediction.predict.predict`; a limit that not even one member meets, or maps
            of a blend that has no density head.
    """
    known, everyone = read_given(given, test.ids), {member.key for member in blend.members}
    blend = trimmed(blend, test, tta, limits.members, limits.seconds)
    kept = {member.key for member in blend.members}
    known = {key: grams for key, grams in known.items() if key in kept or key not in everyone}
    if files.maps:
        density_members(blend)  # refuses a blend without any before it predicts
    with bars() as watch:
        if files.members or files.uncertainty:
            detail = predict_in_detail(blend, test, tta, known, watch)
            predictions = detail.predictions
        else:
            predictions = predict(blend, test, tta, known, watch)
    if files.members:
        write_members(files.members, blend, test.ids, detail)
    if files.uncertainty:
        write_uncertainty(files.uncertainty, blend, test.ids, detail)
        if blend.conformal is None:
            warn("no intervals: the blend was judged on fewer than 9 dates")
    if files.maps:
        with bars() as watch:
            count = write_map_pictures(files.maps, test, density_maps(blend, test, tta, watch))
        say(f"{files.maps}: {count} pictures")
    return predictions
