"""What trials do before their first epoch, as their workers write it and tables read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from pasture.errors import StorageError
from pasture.files import Folder
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.records import preparation
from tune.records.ledger import Ledger, Record
from tune.records.preparation import Preparation, PreparationWriter, no_preparations_left, read_preparations


@pytest.fixture
def record(run: RunFolder) -> Record:
    """A running trial without a report."""
    ledger = Ledger(run)
    record = ledger.propose({}, Recipe())
    ledger.start(record)
    return record


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The writer's clock."""
    now = [1000.0]
    monkeypatch.setattr(preparation.time, "monotonic", lambda: now[0])
    return now


def test_what_a_worker_writes_is_read_until_the_trial_reports(
    run: RunFolder, record: Record, report: Callable[..., dict[str, Any]]
) -> None:
    PreparationWriter(run, record.name, 0)("features", 16, 357)
    assert read_preparations(run, [record]) == {"t0000": Preparation("features", 16, 357, 0)}
    record.report(report(1, 0.1))
    assert read_preparations(run, [record]) == {}, "what a killed worker has left"


def test_a_step_that_has_ended_leaves_no_file(run: RunFolder, record: Record) -> None:
    writer = PreparationWriter(run, record.name, 0)
    writer("features", 357, 357)  # from the cache
    assert not run.preparations.exists()
    writer("features", 16, 357)
    writer("features", 357, 357)
    assert run.preparations.names() == []


def test_not_every_photograph_is_a_write(
    run: RunFolder, record: Record, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    write = Folder.write

    def counted(self: Folder, name: str, content: bytes) -> None:
        writes.append(content)
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", counted)
    writer = PreparationWriter(run, record.name, 0)
    for done in range(100):
        clock[0] += 0.1  # 100 photographs in 10 s
        writer("decoding", done, 200)
    assert 4 <= len(writes) <= 6


def test_a_step_within_a_step(run: RunFolder, record: Record) -> None:
    writer = PreparationWriter(run, record.name, 0)

    def shown() -> str:
        return read_preparations(run, [record])[record.name].step

    writer("features", 0, 357)
    assert shown() == "features"
    writer("decoding", 1, 357)
    assert shown() == "decoding"
    writer("decoding", 357, 357)
    assert shown() == "features"


def test_a_disk_without_room_does_not_fail_the_trial(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Folder, name: str, content: bytes) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(Folder, "write", full)
    PreparationWriter(run, "t0000", 0)("features", 1, 2)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"step": "features"}'])
def test_a_damaged_file_is_no_news(run: RunFolder, record: Record, content: bytes) -> None:
    run.preparations.write("t0000.json", content)
    assert read_preparations(run, [record]) == {}


def test_a_session_starts_and_ends_without_any(run: RunFolder, record: Record) -> None:
    writer = PreparationWriter(run, record.name, 0)
    writer("features", 1, 4)  # by a worker of a driver that was killed
    with no_preparations_left(run):
        assert read_preparations(run, [record]) == {}
        writer("decoding", 1, 4)
    assert not run.preparations.exists()


def test_it_is_shown_as_a_bar() -> None:
    console = Console(width=60, color_system=None, force_terminal=True)
    with console.capture() as captured:
        console.print(Preparation("features", 128, 357, 0))
    assert captured.get().split() == ["features", "━━━━", "35", "%"]


def test_the_files_are_small_and_plain(run: RunFolder) -> None:
    PreparationWriter(run, "t0007", 2)("decoding", 5, 9)
    assert json.loads(run.preparations.read("t0007.json")) == {"step": "decoding", "done": 5, "total": 9, "epochs": 2}
