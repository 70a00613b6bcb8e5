"""Maps of density members: where they lie in the photograph, what they add up to, how they are drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.prediction.density_maps import composed, density_maps, density_members, resized, upright
from ensemble.prediction.map_pictures import draw, write_map_pictures
from ensemble.prediction.predict import predict
from pasture.dataset import read_test, read_train
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from pasture.targets import CLOVER
from pasture.verification import verify
from trainables.features.context import TrialContext
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import View
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial


def test_a_grid_is_refined_and_coarsened_without_changing_a_sum() -> None:
    maps = np.arange(1.0, 5)[None, None, :, None].repeat(5, axis=3)  # one row of 4 cells: 1, 2, 3, 4
    assert resized(maps, 1, 2)[0, 0, :, 0].tolist() == [3, 7]
    assert resized(maps, 2, 4)[0, :, :, 0].tolist() == [[0.5, 1, 1.5, 2]] * 2
    # A third is 4/3 cells: 1 + 2/3, then 2 * 2/3 + 3 * 2/3, then 3/3 + 4
    assert resized(maps, 1, 3)[0, 0, :, 0] == pytest.approx([5 / 3, 10 / 3, 5])
    assert resized(maps, 3, 7).sum() == pytest.approx(maps.sum())


def test_views_lie_where_they_were_cut() -> None:
    halves = torch.zeros(1, 2, 2, 2, 5, dtype=torch.float64)
    halves[0, 0, 0, 1] = 3.0  # left half, upper right cell
    halves[0, 1, 1, 0] = 5.0  # right half, lower left cell
    assert composed(halves, View(kind="halves"))[0, :, :, 0].tolist() == [[0, 3, 0, 0], [0, 0, 5, 0]]
    tiles = torch.arange(4.0, dtype=torch.float64).view(1, 4, 1, 1, 1).expand(-1, -1, -1, -1, 5)
    assert composed(tiles, View(kind="whole", tiles=2))[0, :, :, 0].tolist() == [[0, 1], [2, 3]]
    three = torch.zeros(1, 3, 2, 2, 5, dtype=torch.float64)
    three[0, 0, 0, 0], three[0, 2, 1, 1] = 8.0, 1.0  # the whole, whose upper left cell is two wide, and the right half
    assert composed(three, View(kind="whole_and_halves"))[0, :, :, 0].tolist() == [[4, 4, 0, 0], [0, 0, 0, 1]]
    corners = torch.zeros(1, 5, 1, 1, 5, dtype=torch.float64)
    corners[0, 0], corners[0, 2] = 8.0, 1.0  # the whole, spread over its four quarters, and the upper right corner
    assert composed(corners, View(kind="corners"))[0, :, :, 0].tolist() == [[2, 3], [2, 2]]


@pytest.fixture(scope="module")
def dense_run(paddocks: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A trial with a density head on a frozen backbone and one on a trained backbone, one epoch each."""
    common = {
        "view": {"kind": "halves", "size": 64},
        "backbone": {"name": "test_vit", "weights": "none", "pool": "grid"},
        "head": {"kind": "density", "hidden": [8]},
        "target": {"kind": "components", "transform": "sqrt"},
        "schedule": {"epochs": 1},
        "validation": {"folds": 2},
    }
    frozen = Recipe.parse(common)
    recipes = (frozen, frozen.with_overrides({"backbone.tuning": "full", "view.kind": "whole"}))
    run = RunFolder(tmp_path_factory.mktemp("dense") / "run")
    dataset = verify(read_train(paddocks))
    run.write_truth(dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for number, recipe in enumerate(recipes):
            trial = Trial(
                f"t{number:04d}", recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu")))
            )
            trial.step()
            write_finished(run, trial)
    return run


@pytest.fixture(scope="module")
def dense_blend(dense_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Blend:
    return build([dense_run], tmp_path_factory.mktemp("blends") / "blend", "d4")


@pytest.mark.heavy
def test_the_maps_of_a_blend_add_up_to_its_prediction(dense_blend: Blend, paddocks: Path) -> None:
    test = read_test(paddocks)
    maps = dict(density_maps(dense_blend, test))
    assert list(maps) == list(test.ids)
    # Components are in balance by themselves, so nothing is projected; square roots are taken image by image.
    sums = np.array([each.sum(axis=(0, 1)) for each in maps.values()])
    assert sums == pytest.approx(predict(dense_blend, test), rel=1e-3)
    assert {each.shape for each in maps.values()} == {(4, 8, 5)}
    assert min(each.min() for each in maps.values()) > 0


def test_elements_of_d4_are_undone() -> None:
    view = torch.rand(2, 3, 4, 4, 5)  # a square map of each of three views of two photographs
    cells = torch.stack([d4.apply(view, element) for element in d4.ALL]).flatten(3, 4)
    assert torch.equal(upright(cells, d4.ALL), view.expand(8, -1, -1, -1, -1, -1))


def test_a_blend_without_density_heads_is_refused(blend: Blend) -> None:
    with pytest.raises(InputError, match=r"no member has a density head.* or leave out --maps"):
        density_members(blend)


def test_a_picture_has_a_panel_for_each_target(tmp_path: Path, paddocks: Path, dense_blend: Blend) -> None:
    test = read_test(paddocks)
    maps = [(image, np.full((4, 8, 5), 0.5)) for image in test.ids]
    maps[0][1][1, 2, CLOVER] = 4.0
    assert write_map_pictures(tmp_path / "maps", test, maps) == len(test)
    picture = cv2.imread(str(tmp_path / "maps" / f"{test.ids[0]}.png"))
    assert picture.shape == (2 * (280 + 48), 3 * 570, 3)
    bright = draw(np.zeros((64, 128, 3), np.uint8), maps[0][1])[328 + 26 : -22, :560]  # first panel of the second row
    assert bright[70:140, 140:210].mean() > 1.3 * bright[:60].mean()  # the cell of 4 g in row 1 and column 2
