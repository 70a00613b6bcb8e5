"""Writing a page, and its figures as pictures."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

from forage.pages.page import Page
from forage.terminal.choices import FigureFormat
from pasture.atomic import atomic_file
from pasture.errors import InputError, JobError
from pasture.files import Folder

NAME: Final = "report.html"


def write_page(page: Page, folder: Folder, out: Path | None = None) -> str:
    """Write a page to a file, or to report.html in a folder, and return its location.

    Raises:
        JobError: the page cannot be written.
    """
    content = page.html().encode()
    if out is None:
        folder.write(NAME, content)
        return str(folder / NAME)
    Folder.at(out.absolute().parent).write(out.name, content)
    return str(out)


def write_figures(page: Page, folder: Path, form: FigureFormat = "svg") -> list[Path]:
    """Write every figure of a page as a picture of 1000 pixels' width, and return the files.

    Plotly's own exporter draws them: the library kaleido, with Chrome or Chromium on this machine. Neither uses the
    internet.

    Raises:
        InputError: kaleido is not installed, or it finds no browser.
        JobError: a picture cannot be drawn or written.
    """
    try:
        importlib.import_module("kaleido")
    except ImportError:
        raise InputError(
            "--figures needs the library kaleido (pip install 'pasture-forage[figures]') and Chrome or Chromium; "
            "without them, the camera above each figure of the page saves it as SVG"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in page.figures.items():
        file = folder / f"{name}.{form}"
        try:
            content = figure.to_image(format=form, width=1000, height=figure.layout.height or 400, scale=2)
        except Exception as error:  # what kaleido and its browser raise is not documented
            if "chrome" in str(error).lower():
                raise InputError(
                    "--figures: found no Chrome or Chromium; install one, or name it in BROWSER_PATH"
                ) from None
            raise JobError(f"{file}: cannot be drawn ({type(error).__name__}: {error})") from None
        with atomic_file(file) as partial:
            partial.write_bytes(content)
        written.append(file)
    return written
