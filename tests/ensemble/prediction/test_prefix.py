"""Blends within limits: fewer members, less time, backbones in half precision, several devices."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ensemble.blend.refit
import ensemble.prediction.predict
from ensemble.blend.blend import Blend
from ensemble.blend.refit import refit
from ensemble.prediction import half as half_module
from ensemble.prediction import run_models
from ensemble.prediction.half import store_half
from ensemble.prediction.predict import predict
from ensemble.prediction.prefix import Seconds, cost, first, measure, within
from pasture.dataset import Dataset, read_test
from pasture.errors import InputError


@pytest.fixture(scope="module")
def test(paddocks: Path) -> Dataset:
    return read_test(paddocks)


@pytest.fixture
def copied(blend: Blend, tmp_path: Path) -> Blend:
    """A blend whose folder may be changed."""
    shutil.copytree(blend.folder, tmp_path / "copy")
    return Blend.read(tmp_path / "copy")


def test_the_heaviest_members_keep_their_proportions(blend: Blend) -> None:
    two = first(blend, 2)  # .5, .3, .2
    assert [member.key for member in two.members] == [member.key for member in blend.members[:2]]
    assert [member.weight for member in two.members] == pytest.approx([0.625, 0.375])
    assert first(blend, 1).members[0].weight == 1
    assert first(blend, 9) is blend
    with pytest.raises(InputError, match="expected at least 1"):
        first(blend, 0)


def test_weights_for_each_target_sum_to_what_they_did(blend: Blend) -> None:
    rows = [(0.5, 0.6, 0.7, 0.5, 0.5), (0.3, 0.3, 0.3, 0.3, 0.3), (0.1, 0.1, 0.0, 0.1, 0.1)]
    members = [dataclasses.replace(m, target_weights=row) for m, row in zip(blend.members, rows, strict=True)]
    two = first(dataclasses.replace(blend, members=tuple(members)), 2)
    np.testing.assert_allclose(np.sum([m.shares for m in two.members], axis=0), np.sum(rows, axis=0))
    assert two.members[0].target_weights[0] == pytest.approx(0.5 * 0.9 / 0.8)


@pytest.mark.heavy
def test_seconds_grow_with_photographs_and_members(blend: Blend, test: Dataset) -> None:
    seconds = measure(blend, test)
    assert len(seconds.photograph) == len(blend.members) == 3
    assert (np.diff(seconds.of(100)) >= 0).all()
    assert (seconds.of(1000) >= seconds.of(100)).all()


def test_as_many_members_as_the_time_allows() -> None:
    seconds = Seconds(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.1, 0.5]))
    assert [within(seconds, 10, limit) for limit in (2.0, 2.9, 3.0, 7.9, 8.0)] == [1, 1, 2, 2, 3]
    with pytest.raises(InputError, match=r"the heaviest member alone takes about 2\.0 s for 10 photographs"):
        within(seconds, 10, 1.9)


def test_the_cost_is_said_by_the_nested_score(blend: Blend) -> None:
    scores = [{"members": k, "nested": 0.5 + 0.01 * k, "fitted": 0.7} for k in (1, 2, 3)]
    known = dataclasses.replace(blend, estimate=blend.estimate | {"prefixes": scores, "nested": 0.53})
    assert cost(known, 2) == "2 of 3 members: nested R2 0.5200 instead of 0.5300"
    assert cost(known, 3) == "3 of 3 members"


@pytest.mark.heavy
def test_backbones_are_stored_in_half_precision(copied: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_module, "TOLERANCE_G", 10.0)  # a head on standardised 32-pixel features is that sensitive
    before, size = predict(copied, test), folder_size(copied)
    lines: list[str] = []
    store_half(copied, test, lines.append)
    again = Blend.read(copied.folder)
    assert len(lines) == len(again.half) == 2
    largest = max(float(line.split(" g; stored so")[0].split()[-1]) for line in lines)
    assert folder_size(again) < 0.6 * size
    assert 0 < np.abs(predict(again, test) - before).max() <= largest + 1e-4


@pytest.mark.heavy
def test_a_blend_in_half_precision_can_be_refitted(
    copied: Blend, test: Dataset, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_module, "TOLERANCE_G", 10.0)
    monkeypatch.setattr(ensemble.blend.refit, "best_device", lambda: torch.device("cpu"))
    stored = store_half(copied, test, lambda line: None)
    made = refit(stored, paddocks, tmp_path / "refit", lambda line: None)
    assert made.half == stored.half
    for path in (copied.folder / "backbones").iterdir():
        assert (made.folder / "backbones" / path.name).read_bytes() == path.read_bytes()
    assert {member.folds for member in made.members} == {1}
    assert np.isfinite(predict(made, test)).all()


@pytest.mark.heavy
def test_a_backbone_whose_predictions_change_is_left_as_it_is(
    copied: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_module, "TOLERANCE_G", 1e-6)
    before = {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}
    lines: list[str] = []
    assert store_half(copied, test, lines.append).half == {}
    assert all("not stored so: above" in line for line in lines)
    assert before == {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}


@pytest.mark.heavy
def test_photographs_are_shared_by_all_devices(blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = predict(blend, test)
    used: list[tuple[torch.device, int, int]] = []
    both = threading.Barrier(2, timeout=60)  # passed only if two devices work at the same time

    class Seen(run_models.ChunkRun):
        def predictions(self) -> Any:
            used.append((self.device, self.chunk.rows.start, threading.get_ident()))
            both.wait()
            return super().predictions()

    devices = [torch.device("cpu", 0), torch.device("cpu")]
    monkeypatch.setattr(ensemble.prediction.predict, "ChunkRun", Seen)
    monkeypatch.setattr(ensemble.prediction.predict, "all_devices", lambda: devices)
    np.testing.assert_allclose(predict(blend, test), alone, rtol=2e-3, atol=2e-3)
    assert len(used) == len({thread for *_, thread in used}) == 2
    assert {start for _, start, _ in used} == {0, 3}
    assert {device for device, *_ in used} == set(devices)


def folder_size(blend: Blend) -> int:
    return sum(path.stat().st_size for path in (blend.folder / "backbones").iterdir())
