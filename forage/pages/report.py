"""Writing the page of a run or of a blend into its folder, or to another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ensemble.blend.blend import Blend
from forage.pages.blend_page import blend_page
from forage.pages.output import write_page
from forage.pages.run_page import run_page
from pasture.files import Folder
from pasture.run_folder import RunFolder


def attempt(write: Callable[[], str], say: Callable[[str], None]) -> None:
    """Write a report and print its location. If it fails, print a warning: the results are not affected."""
    try:
        say(f"report: {write()}")
    except Exception as error:
        say(f"warning: no report ({type(error).__name__}: {error})")


def write_run_report(run: RunFolder, out: Path | None = None) -> str:
    """Write the page of a run directory, also while the sweep runs, and return its location.

    Raises:
        InputError: truth or a record of a trial is missing or damaged.
        JobError: the page cannot be written.
    """
    return write_page(run_page(run), run.folder, out)


def write_blend_report(blend: Blend, out: Path | None = None, data: str = "") -> str:
    """Write the page of a blend and return its location.

    Args:
        blend: just built, or read from its folder.
        out: file to write; report.html in the blend folder where None.
        data: location of the data folder; that of the runs by default.

    Raises:
        InputError: the blend folder has no evidence.npz, or a damaged one.
        JobError: the page cannot be written.
    """
    return write_page(blend_page(blend, data), Folder.at(blend.folder), out)
