"""The page of a data folder, and the picture of a batch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from forage.pages.batch_picture import batch_picture
from forage.pages.data_folder import LARGE, SMALL, thumbnails
from forage.pages.photo_facts import near_duplicates, photo_facts
from pasture.dataset import read_train
from trainables.images.views import load_views
from trainables.recipe.recipe import Recipe

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def data(paddocks: Path, tmp_path: Path) -> Path:
    """A data folder that may be changed."""
    return Path(shutil.copytree(paddocks, tmp_path / "data"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe file with as few folds as a small data folder allows."""
    file = tmp_path / "recipe.yaml"
    file.write_text("base: frozen_mlp\nvalidation: {folds: 3}\n")
    return file


def test_a_page_about_a_data_folder(shell: Any, data: Path, recipe: Path, tmp_path: Path) -> None:
    table = pd.read_csv(data / "train.csv")
    table["Species"] = EVIL
    table.to_csv(data / "train.csv", index=False)
    train = read_train(data)
    # A test photograph that a labelled one of some date repeats, a little darker.
    picture = Image.open(train.paths[0]).convert("RGB").point(lambda v: int(v * 0.95))
    picture.save(next((data / "test").glob("*.jpg")), quality=80)
    said = shell("eda", data, "--recipe", recipe, "--out", tmp_path / "eda.html")
    assert said.status == 0, said.err
    page = (tmp_path / "eda.html").read_text()
    for heading in (
        "Targets in numbers", "Photographs by target", "Species", "Dates that decide the score", "Correlations",
        "Brightness and sharpness", "Near-duplicates", "Folds side by side", "Mass balance",
    ):  # fmt: skip
        assert heading in page
    assert f"<td>{train.ids[0]}</td><td>{train.dates[0]}</td>" in page
    assert "1 pair(s)" in page
    assert "<img src=x" not in page
    assert "https://" not in page.split("<script>")[0], "no link that leaves the page"


def test_a_data_page_of_a_folder_that_is_wrong(shell: Any, data: Path, tmp_path: Path) -> None:
    (data / "train.csv").write_text("image_path\n")
    said = shell("eda", data, "--out", tmp_path / "eda.html")
    assert said.status == 2
    assert not (tmp_path / "eda.html").exists()


def test_near_duplicates_are_found_and_others_are_not(paddocks: Path, tmp_path: Path) -> None:
    paths = read_train(paddocks).paths[:6]
    again = tmp_path / "again.jpg"
    Image.open(paths[2]).convert("RGB").resize((120, 60)).save(again, quality=70)
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(paths[0].read_bytes()[:200])
    facts = photo_facts([*paths, damaged, again], lambda *_: None)
    assert facts[6] is None
    assert [(a, b) for a, b, _ in near_duplicates(facts)] == [(2, 7)]
    black = photo_facts([_filled(tmp_path, 0)], lambda *_: None)[0]
    assert black is not None
    assert (black.width, black.height, black.brightness, black.sharpness) == (64, 32, 0.0, 0.0)


def test_photographs_of_a_whole_competition_fit_into_a_page(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 2000, 3), dtype=np.uint8)  # no picture takes more space
    Image.fromarray(noise).save(tmp_path / "noise.jpg")
    small, large, absent = [
        thumbnails([tmp_path / name], width)[0]
        for name, width in (("noise.jpg", SMALL), ("noise.jpg", LARGE), ("x", SMALL))
    ]
    assert absent is None
    assert small is not None
    assert large is not None
    assert 357 * len(small) + 16 * len(large) < 9e6, "with plotly, 15 MB"


def _filled(folder: Path, value: int) -> Path:
    file = folder / "filled.png"
    Image.fromarray(np.full((32, 64, 3), value, np.uint8)).save(file)
    return file


def test_a_batch_holds_the_views_of_training_photographs(paddocks: Path) -> None:
    recipe = Recipe().with_overrides(
        {"view.size": 144, "augment.strength": "none", "backbone.tuning": "full", "validation.folds": 3}
    )
    dataset = read_train(paddocks)
    sheet = np.asarray(batch_picture(dataset, recipe, seed=1, most=4))
    first = sheet[6:150, 6:150]
    held_out = recipe.validation.assign(dataset) == 0
    found = [i for i, path in enumerate(dataset.paths) if (load_views(path, recipe.view)[0] == first).all()]
    assert len(found) == 1
    assert not held_out[found[0]], "a photograph that fold 0 trains on"


def test_the_batch_of_a_frozen_backbone_shows_elements_of_d4(paddocks: Path) -> None:
    recipe = Recipe().with_overrides({"view.size": 144, "augment.strength": "light", "validation.folds": 3})
    assert recipe.banked
    dataset = read_train(paddocks)
    first = np.asarray(batch_picture(dataset, recipe, seed=1, most=1))[6:150, 6:150]
    turned = [np.rot90(v, k) for path in dataset.paths for v in load_views(path, recipe.view)[:1] for k in range(4)]
    assert any((view == first).all() or (view[:, ::-1] == first).all() for view in turned)


def test_forage_batch_writes_a_picture(shell: Any, paddocks: Path, recipe: Path, tmp_path: Path) -> None:
    said = shell("batch", paddocks, "--recipe", recipe, "--out", tmp_path / "batch.png")
    assert said.status == 0, said.err
    assert Image.open(tmp_path / "batch.png").width > 300
    assert shell("batch", paddocks, "--out", tmp_path / "batch.jpg").status == 2
