from __future__ import annotations

import io
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.records import progress
from tune.records.ledger import Ledger, Record, Status
from tune.records.preparation import PreparationWriter
from tune.records.progress import Progress

Report = Callable[..., dict[str, Any]]


def begin(ledger: Ledger, *curve: dict[str, Any]) -> Record:
    record = ledger.propose({}, Recipe())
    record.status = "RUNNING"
    for epoch in curve:
        record.report(epoch)
    return record


def end(record: Record, status: Status, error: str = "") -> Record:
    record.status, record.error = status, error
    return record


def test_plain_lines_where_there_is_no_terminal(
    run: RunFolder, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(run)
    with Progress(ledger, 5, 9, "night") as shown:
        first = begin(ledger)
        shown.watch(first)
        shown.watch(begin(ledger, report(1, 0.1)))
        assert capsys.readouterr().err == ""
        first.report(report(1, 0.25))
        shown.watch(end(first, "COMPLETE"))
        shown.watch(end(begin(ledger, report(1, -0.5)), "PRUNED"))
        shown.watch(end(begin(ledger), "FAILED", "the loss is nan [red]; " + "long " * 40))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("[1/5]  t0000  complete  epochs 1/9  score 0.2500  best 0.2500 by t0000")
    assert lines[1].startswith("[2/5]  t0002  pruned  epochs 1/9  score -0.5000  best 0.2500 by t0000")
    assert lines[2].startswith("[3/5]  t0003  failed  epochs 0/9  score -  best 0.2500 by t0000  the loss is nan [red]")
    assert all(re.search(r"ETA \d+:\d\d$", line) for line in lines)
    assert not any("\x1b" in line for line in lines)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person would see."""
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120, color_system=None)
    )
    return screen


def last_frame(screen: io.StringIO) -> str:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "")
    return text[text.rindex("night:") :]


def test_one_table_on_a_terminal(run: RunFolder, report: Report, terminal: io.StringIO) -> None:
    ledger = Ledger(run)
    with Progress(ledger, 9, 30, "night") as shown:
        assert "0 of 9 trials" in last_frame(terminal)
        assert "ETA unknown" in last_frame(terminal)
        assert "best none yet" in last_frame(terminal)
        shown.started -= 60  # a minute has passed
        for score in (0.1, 0.3):
            shown.watch(end(begin(ledger, report(1, score)), "COMPLETE"))
        shown.watch(end(begin(ledger, report(1, 0.9)), "PRUNED"))
        shown.watch(end(begin(ledger), "FAILED", "nan"))
        shown.watch(end(ledger.propose({}, None, "impossible"), "FAILED"))
        begin(ledger, report(1, 0.1), report(2, 0.2))
        begin(ledger)
        ledger.propose({}, Recipe())  # waits for a place
    frame = last_frame(terminal)
    assert "night: 5 of 9 trials, 1:00 so far, ETA 0:48" in frame
    assert "complete 2   running 2   pruned 1   failed 2   best 0.3000 by t0001" in frame
    assert re.search(r"t0005 .* tf_efficientnet_lite0 .* 2/30 .* 0\.2000 .* 100", frame)
    assert re.search(r"t0006 .* 0/30 .* starting", frame)
    assert "t0000" not in frame.replace("by t0001", "")
    assert terminal.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_trials_that_wait_are_counted_where_there_are_any(
    run: RunFolder, report: Report, terminal: io.StringIO
) -> None:
    ledger = Ledger(run)
    with Progress(ledger, 9, 30, "night") as shown:
        shown.watch(end(begin(ledger, report(1, 0.1)), "WAITING"))
        shown.say("the first stage [1] is over")
    assert "complete 0   running 0   waiting 1   pruned 0" in last_frame(terminal)
    assert "night: 0 of 9 trials" in last_frame(terminal)
    assert "the first stage [1] is over" in terminal.getvalue()


def test_the_table_is_not_redrawn_for_every_epoch(run: RunFolder, report: Report, terminal: io.StringIO) -> None:
    ledger = Ledger(run)
    with Progress(ledger, 9, 30, "night") as shown:
        record = begin(ledger)
        shown.watch(record)
        before = terminal.tell()
        for epoch in range(1, 20):
            record.report(report(epoch, 0.1))
            shown.watch(record)
        assert terminal.tell() == before
        shown.watch(end(record, "COMPLETE"))
        assert terminal.tell() > before


def test_bars_and_clock_go_on_while_nothing_is_reported(run: RunFolder, report: Report, terminal: io.StringIO) -> None:
    ledger = Ledger(run)
    with Progress(ledger, 9, 30, "night") as shown:
        record = begin(ledger)
        PreparationWriter(run, record.name, 0)("features", 128, 357)
        shown.shown = 0.0
        shown.started -= 125
        shown.tick()
        frame = last_frame(terminal)
        assert "2:05 so far" in frame
        assert re.search(r"t0000 .* 0/30 .* features ━+ +35 %", frame)
        before = terminal.tell()
        shown.tick()
        assert terminal.tell() == before, "it was drawn a moment ago"
        record.report(report(1, 0.125))
        shown.shown = 0.0
        shown.tick()
        assert re.search(r"t0000 .* 1/30 .* 0\.1250", last_frame(terminal))


def test_the_time_left_counts_this_session_only(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    for _ in range(6):
        end(begin(ledger, report(1, 0.1)), "COMPLETE")
    shown = Progress(ledger, 10, 9, "night")
    assert shown._eta() == "unknown"
    shown.started -= 7200
    end(begin(ledger), "FAILED")
    assert shown._eta() == "6:00:00"


def test_a_notebook_shows_one_table_that_is_updated(
    run: RunFolder, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            outputs[-1] = html

    def display(html: str, display_id: bool) -> Handle:
        assert display_id
        outputs.append(html)
        return Handle()

    module = types.ModuleType("IPython.display")
    vars(module).update(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress, "Console", lambda **words: Console(**words, force_jupyter=True))
    ledger = Ledger(run)
    with Progress(ledger, 2, 9, "night") as shown:
        assert len(outputs) == 1
        assert "night: 0 of 2 trials" in outputs[0]
        first = begin(ledger, report(1, 0.25))
        shown.watch(end(first, "COMPLETE"))
        begin(ledger, report(1, 0.125))
    assert len(outputs) == 1
    assert "night: 1 of 2 trials" in outputs[0]
    assert "best 0.2500 by t0000" in outputs[0]
    assert "t0001" in outputs[0]
    assert outputs[0].startswith("<pre")
