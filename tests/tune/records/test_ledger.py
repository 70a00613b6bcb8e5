from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow.fs as pafs
import pytest

from pasture.errors import InputError, StorageError
from pasture.files import Folder
from pasture.parquet import read_parquet
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.records.ledger import GROUP_SECONDS, GROUP_SHARE, Ledger, Record, Status

RECIPE = Recipe()
Report = Callable[..., dict[str, Any]]


def end(ledger: Ledger, status: Status, *curve: dict[str, Any], error: str = "") -> str:
    record = ledger.propose({"head.dropout": 0.3}, RECIPE)
    record.status, record.error = status, error
    for epoch in curve:
        record.report(epoch)
    ledger.write(record)
    return record.name


@pytest.mark.parametrize("remote", [False, True])
def test_round_trip(run: RunFolder, report: Report, remote: bool) -> None:
    if remote:
        run.folder = Folder(pafs._MockFileSystem(), "bucket/run")
    ledger = Ledger(run)
    assert ledger.records == {}
    end(ledger, "COMPLETE", report(1, 0.1), report(2, 0.2))
    end(ledger, "PRUNED", report(1, 0.123456789012345678))
    end(ledger, "FAILED", error="lädt nicht")
    ledger.propose({"backbone": "a", "head.dropout": 0.1, "loss.lds.enabled": True, "seed": None}, RECIPE)
    again = Ledger(run)
    assert again.records == ledger.records
    assert list(again.records) == ["t0000", "t0001", "t0002", "t0003"]
    assert [r.status for r in again.records.values()] == ["COMPLETE", "PRUNED", "FAILED", "PENDING"]
    assert Recipe.parse(again.records["t0003"].recipe) == RECIPE


def test_more_than_ten_thousand_trials_stay_in_order(run: RunFolder) -> None:
    ledger = Ledger(run)
    for number in (10_000, 9_999, 2):
        ledger.write(Record(number, {}, RECIPE.to_dict()))
    assert list(Ledger(run).records) == ["t0002", "t9999", "t10000"]


def test_a_proposal_is_on_disk_before_it_runs(run: RunFolder) -> None:
    ledger = Ledger(run)
    ledger.propose({"head.dropout": 0.3}, RECIPE)
    impossible = ledger.propose({"loss.lds.size": 2}, None, "an even size")
    assert (impossible.status, impossible.error, impossible.recipe) == ("FAILED", "an even size", {})
    assert Ledger(run).records == ledger.records


def test_a_report_told_twice_counts_once(run: RunFolder, report: Report) -> None:
    record = Ledger(run).propose({}, RECIPE)
    for epoch, score in [(1, 0.1), (2, 0.2), (2, 0.2), (3, 0.3)]:
        record.report(report(epoch, score))
    assert [r["epoch"] for r in record.curve] == [1, 2, 3]
    # A worker that died goes back to its checkpoint: what follows is told anew.
    record.report(report(2, 0.2))
    assert [r["epoch"] for r in record.curve] == [1, 2]
    assert record.score == 0.2


def test_a_deleted_record_leaves_a_gap_that_the_next_proposal_fills(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    for i in range(4):
        end(ledger, "COMPLETE", report(1, 0.1 * i))
    kept = run.trials.read("t0003.json")
    run.trials.delete("t0001.json")
    ledger = Ledger(run)
    assert ledger.propose({}, RECIPE).name == "t0001"
    assert ledger.propose({}, RECIPE).name == "t0004"
    assert run.trials.read("t0003.json") == kept


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"number": 0}', b'{"number":0,"params":{},"recipe":{},"colour":1}'],
)
def test_a_damaged_record_is_named(run: RunFolder, content: bytes) -> None:
    ledger = Ledger(run)
    ledger.propose({}, RECIPE)
    run.trials.write("t0001.json", content)
    with pytest.raises(InputError, match=r"trials/t0001\.json: damaged record .*; delete it") as caught:
        Ledger(run)
    assert "\n" not in str(caught.value)


def test_one_changed_digit_is_noticed(run: RunFolder, report: Report) -> None:
    end(Ledger(run), "COMPLETE", report(1, 0.6125))
    content = run.trials.read("t0000.json")
    run.trials.write("t0000.json", content.replace(b"0.6125", b"0.7125"))
    with pytest.raises(InputError, match=r"t0000\.json: damaged record \(its content does not match its sha256\)"):
        Ledger(run)


def test_a_half_written_record_is_no_record(run: RunFolder) -> None:
    Ledger(run).propose({}, RECIPE)
    run.trials.write(".t0001.json.0a1b2c3d.tmp", b"{")
    assert list(Ledger(run).records) == ["t0000"]


def test_best(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    assert ledger.best() is None
    end(ledger, "PRUNED", report(1, 0.9))
    assert ledger.best() is None
    end(ledger, "COMPLETE", report(1, -0.2))
    end(ledger, "COMPLETE", report(1, 0.5))
    end(ledger, "COMPLETE", report(1, 0.5))
    best = ledger.best()
    assert best is not None
    assert best.name == "t0002"


def test_score_zero_beats_a_negative_one(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    end(ledger, "COMPLETE", report(1, -0.5))
    end(ledger, "COMPLETE", report(1, 0.0))
    best = ledger.best()
    assert best is not None
    assert best.name == "t0001"


def test_table(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    end(ledger, "COMPLETE", report(1, 0.1), report(2, 0.2), report(3, 0.2, best_epoch=2))
    end(ledger, "FAILED", report(1, 0.1), error="the loss is nan")
    ledger.propose({"loss.lds.size": 2}, None, "an even size")
    ledger.propose({}, RECIPE)
    ledger.write_table()
    table = read_parquet(run.folder, "trials.parquet").to_pandas()
    assert list(table["trial"]) == ["t0000", "t0001", "t0002", "t0003"]
    assert list(table["status"]) == ["COMPLETE", "FAILED", "FAILED", "PENDING"]
    assert list(table["epochs"]) == [3, 1, 0, 0]
    assert table["score"][0] == 0.2
    assert table["best_epoch"][0] == 2
    assert list(table["seconds"]) == [1.5, 0.5, 0, 0]
    assert list(table["error"]) == ["", "the loss is nan", "an even size", ""]
    assert table["head.dropout"][0] == RECIPE.head.dropout
    assert table["head.hidden"][0] == "[512, 256]"
    assert set(RECIPE.flat()) <= set(table.columns)


def test_tables_of_an_empty_ledger_and_of_impossible_trials_only(run: RunFolder) -> None:
    ledger = Ledger(run)
    ledger.write_table()
    assert read_parquet(run.folder, "trials.parquet").num_rows == 0
    ledger.propose({}, None, "no")
    ledger.write_table()
    assert read_parquet(run.folder, "trials.parquet").num_rows == 1


def test_reports_are_written_in_groups_whose_cost_is_bounded(
    run: RunFolder, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    cost = 0.0

    def write(folder: Folder, name: str, content: bytes) -> None:
        nonlocal now
        now += cost
        plain_write(folder, name, content)

    plain_write = Folder.write
    monkeypatch.setattr(Folder, "write", write)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ledger = Ledger(run)
    records = [ledger.propose({}, RECIPE) for _ in range(3)]

    def written() -> list[int]:
        return [len(record.curve) for record in Ledger(run).records.values()]

    def report_all(epoch: int) -> None:
        for record in records:
            record.report(report(epoch, 0.1))
            ledger.write_later(record)
        ledger.write_group()

    report_all(1)
    assert written() == [1, 1, 1]
    report_all(2)
    assert written() == [1, 1, 1]  # too soon
    ledger.write(records[0])
    assert written() == [2, 1, 1]
    cost = 1.0
    now += GROUP_SECONDS + 0.1
    report_all(3)
    assert written() == [3, 3, 3]
    now += 2.0 / GROUP_SHARE  # less than 3 writes of a second allow
    report_all(4)
    assert written() == [3, 3, 3]
    now += 1.1 / GROUP_SHARE
    report_all(5)
    assert written() == [5, 5, 5]
    report_all(6)
    ledger.flush()
    assert written() == [6, 6, 6]


def test_a_group_that_cannot_be_written_is_written_later(
    run: RunFolder, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(run)
    record = ledger.propose({}, RECIPE)
    record.report(report(1, 0.1))
    ledger.write_later(record)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", lambda *_: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError, match="full"):
            ledger.flush()
    ledger.flush()
    assert Ledger(run).records == ledger.records
