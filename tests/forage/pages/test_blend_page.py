"""Parts of the page of a blend that not every blend has."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.weighting.options import MethodName
from forage.pages import maps
from forage.pages.blend_page import blend_page
from forage.pages.maps import has_density
from forage.pages.report import write_blend_report
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from pasture.targets import WEIGHTS, Array
from trainables.recipe.recipe import Recipe


@pytest.mark.heavy
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


@pytest.mark.heavy
@pytest.mark.parametrize(("method", "words"), [("best-k", "ranked without each date"), ("greedy", "they are too high")])
def test_how_members_were_chosen(finished_run: RunFolder, tmp_path: Path, method: MethodName, words: str) -> None:
    blend = build([finished_run], tmp_path / "blend", "none", method)
    taken = blend.estimate["steps"]
    page = blend_page(Blend.read(blend.folder))
    assert page.figures["how-members-were-chosen"].data[1].x == (taken["kept"],)
    assert any(words in part for part in page.parts)
    assert {member.key for member in blend.members} == set(taken["members"][: taken["kept"]])


def outer_cv(folder: Path, blend: Blend, **changes: Any) -> Path:
    """A folder as `forage outer-cv` leaves it."""
    assert blend.evidence is not None
    dates = sorted(set(blend.evidence.dates.tolist()))
    rows = [{"strategy": "search: best-k", "outer": 0.4, "error": 0.1}]
    table = {"rows": rows, "dates": len(dates), "seeds": 3, "date_names": dates}
    folder.mkdir(exist_ok=True)
    (folder / "outer-cv.json").write_text(json.dumps(table | changes))
    return folder


def test_the_outer_score_is_beside_the_others(shell: Any, blend: Blend, tmp_path: Path) -> None:
    assert blend.evidence is not None
    copy = shutil.copytree(blend.folder, tmp_path / "blend")
    said = shell("report", copy, "--outer-cv", outer_cv(tmp_path / "outer", blend))
    assert said.status == 0, said.err
    page = (tmp_path / "blend" / "report.html").read_text()
    half = t.ppf(0.975, len(set(blend.evidence.dates)) - 1) * 0.1
    assert f"<td>outer</td><td>0.4000</td><td>{0.4 - half:.3f} to {0.4 + half:.3f}</td>" in page
    assert "The mean of 3 seed(s) of whole sweeps blended by best-k:" in page
    assert f"<td>fitted</td><td>{blend.estimate['fitted']:.4f}</td>" in page
    assert f"<td>nested</td><td>{blend.estimate['nested']:.4f}</td>" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"date_names": ["2015-01-01"]}, "made on 1 dates, which are not the"),
        ({"rows": []}, "has no score of 'search: best-k'"),
        ({"rows": 3}, "outer-cv.json: damaged (TypeError"),
        (None, "has no outer-cv.json"),
    ],
)
def test_an_outer_cv_that_says_nothing_about_the_blend(
    shell: Any, blend: Blend, tmp_path: Path, changes: dict[str, Any] | None, message: str
) -> None:
    folder = tmp_path if changes is None else outer_cv(tmp_path / "outer", blend, **changes)
    said = shell("report", blend.folder, "--outer-cv", folder, "--out", tmp_path / "page.html")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert message in said.err
