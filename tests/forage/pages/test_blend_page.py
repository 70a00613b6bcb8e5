"""Parts of the page of a blend that not every blend has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ensemble.blend.blend import Blend
from forage.pages import maps
from forage.pages.maps import has_density
from forage.pages.report import write_blend_report
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.targets import WEIGHTS, Array
from trainables.recipe.recipe import Recipe


def test_density_maps_of_the_worst_and_the_best_photographs(
    blend: Blend, paddocks: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not has_density(blend)
    dense = Recipe().with_overrides(
        {"backbone.name": "test_vit", "backbone.pool": "grid", "head.kind": "density", "target.kind": "components"}
    )
    first, *others = blend.members
    evidence = blend.evidence
    assert evidence is not None
    errors = (evidence.truth - evidence.unseen.mean(axis=0)) ** 2 @ WEIGHTS
    order = [evidence.image_ids[i] for i in np.argsort(-errors)]
    asked: list[list[str]] = []

    def density_maps(_: Blend, images: Dataset, tta: str) -> list[tuple[str, Array]]:
        assert tta == "none"
        asked.append(images.ids)
        return [(i, np.ones((2, 4, 5))) for i in images.ids]

    monkeypatch.setattr(maps, "density_maps", density_maps)
    altered = dataclasses.replace(blend, folder=tmp_path, members=(dataclasses.replace(first, recipe=dense), *others))
    page = Path(write_blend_report(altered, data=str(paddocks))).read_text()
    assert asked == [[*order[:4], *order[-4:]]]
    assert f"worst: {order[0]}; " in page
    assert f"best: {order[-1]}; " in page

    def fail(*_: object) -> None:
        raise InputError("fold0.safetensors: missing")

    monkeypatch.setattr(maps, "density_maps", fail)
    page = Path(write_blend_report(altered, data=str(paddocks))).read_text()
    assert "no density maps: fold0.safetensors: missing" in page
