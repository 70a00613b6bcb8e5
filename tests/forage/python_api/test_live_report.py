"""The page of a run while its sweep goes on."""

from __future__ import annotations

import pytest

from forage.python_api import live_report as module
from forage.python_api.live_report import LiveReport, live_report
from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger


def test_the_page_exists_while_the_sweep_runs_and_is_current_when_it_ends(
    swept: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)
    swept.folder.delete("report.html")
    ledger = Ledger(swept)
    running, ended = ledger.records["t0000"], ledger.records["t0001"]
    running.status = "RUNNING"
    report = LiveReport(swept)
    report.watch(running)
    assert report.thread is None, "an epoch is no reason to write the page"
    report.watch(ended)
    assert report.thread is not None
    report.thread.join()
    before = swept.folder.read("report.html")
    assert b"t0000" in before
    running.status, running.error = "FAILED", "out of hay"
    ledger.write(running)
    report.finish()
    assert b"out of hay" in swept.folder.read("report.html")
    assert b"out of hay" not in before


def test_a_short_sweep_does_not_write_it_and_a_page_that_fails_stops_no_sweep(
    swept: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept.folder.delete("report.html")
    ended = Ledger(swept).records["t0001"]
    with live_report(swept) as watch:
        watch(ended)
    assert not swept.folder.exists("report.html")
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)
    swept.folder.delete("truth.parquet")
    with live_report(swept) as watch:
        watch(ended)


def test_a_page_that_takes_long_is_written_less_often(swept: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def slow(run: RunFolder) -> str:
        now[0] += 5.0
        return ""

    monkeypatch.setattr("forage.pages.report.write_run_report", slow)
    report = LiveReport(swept)
    now[0] = 100.0
    report.write()
    assert report.due == 100.0 + 5.0 / module.SHARE
