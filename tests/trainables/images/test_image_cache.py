"""Decoded views, once for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pasture.dataset import Dataset
from pasture.errors import InputError
from trainables.images import image_cache
from trainables.images.image_cache import cached_views
from trainables.images.views import load_views
from trainables.recipe.sections import View

HALVES, WHOLE = View(size=32), View(kind="whole", size=48)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("view", [HALVES, WHOLE], ids=["halves", "whole"])
def test_rows_are_the_photographs_in_order(dataset: Dataset, fingerprint: str, view: View) -> None:
    views = cached_views(dataset, fingerprint, view)
    assert views.dtype == np.uint8
    assert np.array_equal(views, [load_views(path, view) for path in dataset.paths])
    assert not views.flags.writeable


def test_a_photograph_is_decoded_once(
    dataset: Dataset, fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_views(dataset, fingerprint, HALVES)

    def fail(path: Path, view: View) -> np.ndarray:
        raise AssertionError(f"{path} decoded again")

    monkeypatch.setattr(image_cache, "load_views", fail)
    assert np.array_equal(cached_views(dataset, fingerprint, HALVES), first)
    for other in ((fingerprint, WHOLE), (fingerprint, View(size=64)), ("other pictures", HALVES)):
        with pytest.raises(AssertionError, match="decoded again"):
            cached_views(dataset, *other)


def test_a_bad_picture_is_named_and_nothing_is_kept(dataset: Dataset, tmp_path: Path) -> None:
    broken = Dataset(tmp_path, dataset.images)
    with pytest.raises(InputError, match="not a readable picture"):
        cached_views(broken, "broken", HALVES)
    assert not list(tmp_path.rglob("*.npy"))
