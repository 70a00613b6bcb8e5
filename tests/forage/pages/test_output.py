"""Figures as files, and `forage report`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go
import pytest

from forage.pages.output import write_figures
from forage.pages.page import Page
from pasture.errors import InputError, JobError
from pasture.run_folder import RunFolder


@pytest.fixture
def page() -> Page:
    """A page with two figures."""
    page = Page("Two figures")
    page.figure("The first <figure>", "", go.Figure(go.Scatter(y=[1, 2])))
    page.figure("The second", "", go.Figure(go.Bar(y=[1, 2])))
    return page


def test_every_figure_becomes_a_file(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", ModuleType("kaleido"))
    monkeypatch.setattr(go.Figure, "to_image", lambda self, **_: self.data[0].type.encode())
    written = write_figures(page, tmp_path / "new" / "figures")
    assert [(path.name, path.read_text()) for path in written] == [
        ("the-first-figure.svg", "scatter"),
        ("the-second.svg", "bar"),
    ]


@pytest.mark.parametrize(
    ("raised", "error", "words"),
    [
        (RuntimeError("Kaleido requires Google Chrome to be installed."), InputError, "found no Chrome"),
        (RuntimeError("odd"), JobError, "cannot be drawn"),
    ],
)
def test_a_figure_that_cannot_be_drawn(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, error: type, words: str
) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise raised

    monkeypatch.setitem(sys.modules, "kaleido", ModuleType("kaleido"))
    monkeypatch.setattr(go.Figure, "to_image", fail)
    with pytest.raises(error, match=words):
        write_figures(page, tmp_path)


def test_without_kaleido_the_message_says_what_to_install(
    shell: Any, swept: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    said = shell("report", swept, "--out", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert said.status == 2
    assert "pasture-forage[figures]" in said.err
    assert (tmp_path / "page.html").exists(), "the page itself needs no browser"
    assert not (tmp_path / "figures").exists()


def test_report_of_a_folder_that_is_neither_run_nor_blend(shell: Any, tmp_path: Path) -> None:
    said = shell("report", tmp_path)
    assert said.status == 2
    assert "not a run directory" in said.err


def test_report_writes_into_the_run(shell: Any, swept: RunFolder) -> None:
    said = shell("report", swept)
    assert (said.status, said.err) == (0, f"report: {swept}/report.html\n")
    assert Path(f"{swept}/report.html").stat().st_size > 1e6
