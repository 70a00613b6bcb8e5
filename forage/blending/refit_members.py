"""Which members of a new blend are trained again on all photographs, and on what data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.blend.refit import refit_in_place
from forage.terminal.messages import say, warn
from pasture.errors import InputError
from pasture.run_folder import RunFolder


def refit_members(blend: Blend, runs: Sequence[RunFolder], data: Path | None, all_members: bool) -> Blend:
    """Train members of a new blend again on all photographs of its runs.

    On dates held out of everything, blends of frozen features score higher so (docs/explanation/outer-cv.md), and a
    member takes less time than one of its folds did. Members that train their backbone take as long
    as a fold and have not been compared: they are trained again only on request.

    Args:
        blend: as it was built.
        runs: that it was built from.
        data: their data folder; None for the one that the first run was made from.
        all_members: train all members that have a recipe, and refuse to leave the blend as it is.

    Returns:
        The blend; as it was, with a warning, where the photographs are not to be found or have changed.

    Raises:
        InputError: with `all_members` or `data`, if the data cannot be used.
        JobError: a loss is not finite, or the folder cannot be written. The blend of fold models stays.
    """
    own = [member for member in blend.members if member.recipe is not None]
    chosen = [member for member in own if all_members or (member.recipe and member.recipe.banked)]
    if not chosen:
        return blend
    start = time.monotonic()
    try:
        made = _refitted(blend, runs, data, chosen)
    except InputError as error:
        if all_members or data:
            raise
        warn(f"members are the models of their folds, not refitted: {error}; give --data, or --no-refit")
        return blend
    say(
        f"{len(chosen)} of {len(blend.members)} members refitted on all photographs in "
        f"{time.monotonic() - start:.0f} s; the scores are those of the models of their folds, which --no-refit keeps"
    )
    if len(chosen) < len(own):
        say("members that train their backbone are the models of their folds; --refit trains them on all photographs")
    return made


def _refitted(blend: Blend, runs: Sequence[RunFolder], data: Path | None, chosen: Sequence[BlendMember]) -> Blend:
    folder = data or Path(next(run for run in runs if not run.external).read_sweep()["data"])
    return refit_in_place(blend, folder, chosen, say)
