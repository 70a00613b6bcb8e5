from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record, Status
from tune.records.retention import Retention

Report = Callable[..., dict[str, Any]]


def end(ledger: Ledger, status: Status, report: dict[str, Any], files: tuple[str, ...]) -> Record:
    """A trial, with files that it may have left."""
    record = ledger.propose({}, Recipe())
    record.status = status
    record.report(report)
    ledger.write(record)
    for file in files:
        ledger.run.folder.write(file.format(record.name), b"content")
    return record


FINISHED = ("oof/{}.parquet", "epochs/{}.npz", "weights/{}/fold0.safetensors", "weights/{}/fold1.safetensors")


def left(run: RunFolder) -> list[str]:
    return sorted(path for path in run.folder.sizes() if not path.startswith(("trials/", "epochs/")))


def test_only_the_best_keep_their_weights_from_trial_to_trial(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    retention = Retention(run, ledger, 2)
    for score in (0.1, 0.5, 0.3, 0.3):
        retention.tidy(end(ledger, "COMPLETE", report(1, score), (*FINISHED, "checkpoints/{}.pt")))
    retention.tidy(end(ledger, "PRUNED", report(1, 0.9), ("checkpoints/{}.pt",)))
    kept = [file.format(t) for t in ("t0001", "t0002") for file in FINISHED if "epochs" not in file]
    assert left(run) == sorted([*kept, "retired/t0000.parquet", "retired/t0003.parquet"])
    assert run.retired.read("t0000.parquet") == b"content"
    assert len(run.epochs.names()) == 4


def test_all_are_kept_where_nothing_else_was_said(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    for score in (0.1, 0.2):
        Retention(run, ledger, None).tidy(end(ledger, "COMPLETE", report(1, score), FINISHED))
    assert len(left(run)) == 6


def test_what_killed_processes_leave_is_collected_and_what_is_needed_is_not(run: RunFolder, report: Report) -> None:
    ledger = Ledger(run)
    end(ledger, "COMPLETE", report(1, 0.5), (*FINISHED, "checkpoints/{}.pt"))
    end(ledger, "PRUNED", report(1, 0.1), ("checkpoints/{}.pt",))
    end(ledger, "FAILED", report(1, 0.1), ("weights/{}/fold0.safetensors",))
    end(ledger, "RUNNING", report(1, 0.1), ("checkpoints/{}.pt", "weights/{}/fold0.safetensors"))
    end(ledger, "WAITING", report(1, 0.1), ("checkpoints/{}.pt",))
    for path in ("oof/.t0000.parquet.0a1b2c3d.tmp", "trials/.t0001.json.0a1b2c3d.tmp"):
        run.folder.write(path, b"half")
    before = sum(run.folder.sizes().values())
    freed = Retention(run, ledger, None).collect()
    assert freed == 3 * len(b"content") + 2 * len(b"half") == before - sum(run.folder.sizes().values())
    kept = [file.format("t0000") for file in FINISHED if "epochs" not in file]
    assert left(run) == sorted(
        [*kept, "checkpoints/t0003.pt", "checkpoints/t0004.pt", "weights/t0003/fold0.safetensors"]
    )
    assert Retention(run, ledger, None).collect() == 0


@pytest.mark.parametrize("after", ["copy", "oof"])
def test_a_kill_in_the_middle_is_mended_by_the_next_time(run: RunFolder, report: Report, after: str) -> None:
    ledger = Ledger(run)
    end(ledger, "COMPLETE", report(1, 0.5), FINISHED)
    end(ledger, "COMPLETE", report(1, 0.1), FINISHED)
    run.folder.write("retired/t0001.parquet", b"content")
    if after == "oof":
        run.oof.delete("t0001.parquet")
    Retention(run, ledger, 1).collect()
    assert [path for path in left(run) if "t0001" in path] == ["retired/t0001.parquet"]
