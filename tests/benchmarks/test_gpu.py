"""The stand-ins of `make gpu`, at tiny size; what takes processes of its own is done in this one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_child import lose
from benchmarks.table import Measure, Row

pytestmark = pytest.mark.heavy

Rows = Callable[[Measure], list[Row]]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "best_device", lambda: torch.device("cpu"))


class Ended:
    """A process that has ended."""

    def __init__(self, status: int) -> None:
        self.status = status

    def wait(self, timeout: float) -> int:
        return self.status


def test_checks_in_this_process(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "CHECKS", (gpu.mixed_precision, gpu.out_of_memory, gpu.compiled, gpu.bank))
    found = rows(gpu.measure)
    assert len(found) == 5
    assert all(row.what.endswith("(stand-in)") for row in found)
    assert not any("missed" in row.goal for row in found)
    assert "1 photographs" in found[3].forage
    said = capsys.readouterr().err
    assert "no CUDA device here: stand-ins" in said
    assert "compiled backbone: skipped" in said


def test_a_lost_device_is_recognised(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lose(torch.device("cpu"))
    monkeypatch.setattr(gpu, "CHECKS", (gpu.sticky_error,))
    monkeypatch.setattr(gpu, "_child", lambda *_: Ended(3))
    assert [row.ratio for row in rows(gpu.measure)] == [1]
    monkeypatch.setattr(gpu, "_child", lambda *_: Ended(0))
    assert [row.ratio for row in gpu.measure(gpu.Options(quick=True))] == [0]


def test_a_check_that_fails_leaves_the_others(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(gpu, "CHECKS", (broken, gpu.out_of_memory))
    failed, other = gpu.measure(gpu.Options(quick=True))
    assert (failed.what, failed.forage) == ("broken: failed", "ValueError: no such thing")
    assert failed.goal == "≥ 1 missed"
    assert other.ratio == 0.25


def test_several_gpus_and_two_trials(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(gpu, "_child", lambda *words: started.append(words))
    monkeypatch.setattr(gpu, "_printed", lambda _: 3.0)
    monkeypatch.setattr(gpu, "CHECKS", (gpu.several_gpus, gpu.two_trials))
    together, trials = rows(gpu.measure)
    assert (together.ratio, trials.ratio) == (1, 2)
    assert [words[0] for words in started] == ["rank", "rank", "train", "train", "train"]
