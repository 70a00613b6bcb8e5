"""Decoded views, once for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pasture.errors import InputError
from pasture.verification import VerifiedDataset, with_fingerprint
from trainables.images import image_cache
from trainables.images.image_cache import cached_views
from trainables.images.views import load_views
from trainables.recipe.sections import View

HALVES, WHOLE = View(size=32), View(kind="whole", size=48)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("view", [HALVES, WHOLE], ids=["halves", "whole"])
def test_rows_are_the_photographs_in_order(dataset: VerifiedDataset, view: View) -> None:
    views = cached_views(dataset, view)
    assert views.dtype == np.uint8
    assert np.array_equal(views, [load_views(path, view) for path in dataset.paths])
    assert not views.flags.writeable


def test_a_photograph_is_decoded_once(
    dataset: VerifiedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_views(dataset, HALVES)

    def fail(path: Path, view: View) -> np.ndarray:
        raise AssertionError(f"{path} decoded again")

    monkeypatch.setattr(image_cache, "load_views", fail)
    assert np.array_equal(cached_views(dataset, HALVES), first)
    for other in ((dataset, WHOLE), (dataset, View(size=64)), (with_fingerprint(dataset, "other pictures"), HALVES)):
        with pytest.raises(AssertionError, match="decoded again"):
            cached_views(*other)


def test_a_bad_picture_is_named_and_nothing_is_kept(dataset: VerifiedDataset, tmp_path: Path) -> None:
    broken = replace(dataset, root=tmp_path, content="broken")
    with pytest.raises(InputError, match="no such picture"):
        cached_views(broken, HALVES)
    assert not list(tmp_path.rglob("*.npy"))
