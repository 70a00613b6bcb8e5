"""W&B runs written offline, read back from their files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pasture.run_folder import RunFolder

Follow = Callable[..., None]


def entries(file: Path) -> Iterator[Any]:
    """The entries of a file of W&B: a header of 7 bytes, then checksum (4), length (2), kind (1) and the entry."""
    from wandb.proto.wandb_internal_pb2 import Record  # here: every process of a test run imports this module

    content, start = file.read_bytes(), 7
    while start + 7 <= len(content):
        (length,) = struct.unpack_from("<H", content, start + 4)
        yield Record.FromString(content[start + 7 : start + 7 + length])
        start += 7 + length


def history(file: Path) -> list[dict[str, float]]:
    return [
        {item.nested_key[0] if item.nested_key else item.key: json.loads(item.value_json) for item in e.history.item}
        for e in entries(file)
        if e.WhichOneof("record_type") == "history"
    ]


@pytest.mark.heavy
def test_offline_runs(golden: RunFolder, follow_two_sessions: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    follow_two_sessions("wandb")
    files = sorted(Path(golden.trackers.path).glob("wandb/offline-run-*/run-*.wandb"))
    identity = golden.trackers.read("id").decode()
    trials = [file.stem.removeprefix(f"run-{identity}-") for file in files]
    assert sorted(trials) == ["t0000", "t0001", "t0001", "t0002", "t0003"], "t0001 in both sessions, with one id"
    whole = history(files[len(trials) - 1 - trials[::-1].index("t0001")])
    assert [step["epoch"] for step in whole] == [1, 2, 3]
    assert {"val/score", "val/r2_total", "train/loss", "train/lr"} <= set(whole[0])
    pruned = {e.WhichOneof("record_type"): e for e in entries(files[trials.index("t0002")])}
    assert "pruned" in list(pruned["run"].run.tags)
    assert pruned["run"].run.run_group == "run"
