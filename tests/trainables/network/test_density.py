"""The density head by hand: shares of views, sums of cells, target transforms, gradients and refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pasture.errors import InputError
from trainables.images.views import view_boxes, view_count, view_shares
from trainables.network.backbone import check_backbone, create_backbone
from trainables.network.density import DensityHead
from trainables.network.model import Batch, BiomassNet
from trainables.network.pooling import on_one_grid
from trainables.recipe.backbone import Backbone
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import View

GRAMS = torch.tensor([[10.0, 4.0, 0.0, 10.0, 14.0], [30.0, 8.0, 6.0, 36.0, 44.0]])
"""Weights of two photographs, in balance; their means are 20, 6, 3, 23 and 29."""


def density(**changes: Any) -> Recipe:
    """A recipe with a density head without hidden layers."""
    return Recipe().with_overrides(
        {"head": {"kind": "density", "hidden": [], "norm": False, "dropout": 0}, "backbone.pool": "grid", **changes}
    )


def net_of(recipe: Recipe, features: int = 3) -> BiomassNet:
    torch.manual_seed(0)
    return BiomassNet(recipe, features).eval()


@pytest.mark.parametrize(
    ("view", "shares"),
    [
        ({"kind": "whole"}, [1.0]),
        ({"kind": "halves"}, [0.5, 0.5]),
        ({"kind": "halves", "tiles": 2}, [0.125] * 8),
        ({"kind": "whole_and_halves"}, [0.5, 0.25, 0.25]),  # so is everything here
        ({"kind": "whole_and_halves", "tiles": 2}, [0.125] * 4 + [0.0625] * 8),
        ({"kind": "corners"}, [0.5, 0.125, 0.125, 0.125, 0.125]),  # everything is seen twice
    ],
)
def test_shares_of_views(view: dict[str, Any], shares: list[float]) -> None:
    assert view_shares(View.model_validate(view)) == shares
    assert view_count(View.model_validate(view)) == len(shares)


def test_boxes_of_tiles_go_row_after_row_within_a_half() -> None:
    boxes = view_boxes(View(kind="halves", tiles=2))
    assert boxes[:4] == [(0, 0, 0.25, 0.5), (0.25, 0, 0.25, 0.5), (0, 0.5, 0.25, 0.5), (0.25, 0.5, 0.25, 0.5)]
    assert boxes[4:] == [(x + 0.5, y, width, height) for x, y, width, height in boxes[:4]]


@pytest.mark.parametrize("transform", ["none", "sqrt", "log1p", "log1p_z"])
@pytest.mark.parametrize("kind", ["five", "primary", "four", "components", "ratios"])
def test_it_starts_at_the_mean_of_the_fold_whatever_the_views(kind: str, transform: str) -> None:
    if kind == "ratios" and transform == "log1p_z":
        return  # refused
    for view in ({"kind": "whole"}, {"kind": "corners"}, {"kind": "halves", "tiles": 2}):
        net = net_of(density(target={"kind": kind, "transform": transform}, view=view))
        assert isinstance(net.head, DensityHead)
        net.codec.fit(torch.cat([GRAMS, GRAMS + 100]))  # logarithms are clipped at the largest of the fold
        net.start_at(GRAMS)
        for network in net.head.networks:
            torch.nn.init.zeros_(network[-1].weight)  # type: ignore[index, arg-type]
        for cells in (4, 9):
            grams = net.grams(Batch(torch.randn(2, view_count(View.model_validate(view)), cells, 3)))
            torch.testing.assert_close(grams, torch.tensor([[20.0, 6, 3, 23, 29]]).expand(2, -1), rtol=1e-4, atol=1e-3)


def test_the_prediction_is_the_sum_of_the_maps_and_a_map_shows_the_cell() -> None:
    net = net_of(density(target={"kind": "components", "transform": "none"}, view={"kind": "corners"}))
    assert isinstance(net.head, DensityHead)
    net.start_at(GRAMS)
    with torch.no_grad():
        net.head.networks[0][-1].weight.copy_(torch.eye(3))  # type: ignore[index, union-attr, operator]
    cells = torch.zeros(1, 5, 4, 3)
    cells[0, 0, 2, 0] = 5.0  # one cell of the whole photograph has more green
    cells[0, 3, 1, 2] = 2.0  # one cell of a quarter has more clover
    maps = net.maps(Batch(cells))
    assert maps.shape == (1, 5, 4, 5)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), net.grams(Batch(cells)))
    start = math.log(math.e - 1)
    green, clover = (math.log1p(math.exp(start + more)) for more in (5.0, 2.0))
    # A cell of the whole has 1/2 of 1/4 of the area, one of a quarter 1/8 of 1/4.
    assert maps[0, 0, 2, 0].item() == pytest.approx(20 * green / 8, rel=1e-5)
    assert maps[0, 3, 1, 2].item() == pytest.approx(3 * clover / 32, rel=1e-5)
    assert maps[0, 1, 0].tolist() == pytest.approx([each / 32 for each in (20, 6, 3, 23, 29)], rel=1e-5)
    assert maps.min() > 0


def test_the_gradient_reaches_every_cell_and_every_layer_in_every_kind() -> None:
    for kind in ("five", "primary", "four", "components", "ratios"):
        net = BiomassNet(density(**{"target.kind": kind, "target.transform": "sqrt", "head.hidden": [8]}), 3)
        net.start_at(GRAMS)
        cells = torch.randn(2, 2, 4, 3, requires_grad=True)
        encoded = net(Batch(cells))
        assert encoded.shape == (2, 1, len(net.codec.columns))
        encoded.sum().backward()  # type: ignore[no-untyped-call]
        assert cells.grad is not None
        assert (cells.grad.abs().amax(dim=3) > 0).all()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.head.parameters())


def test_a_cell_without_any_grams_keeps_the_gradient_finite() -> None:
    net = BiomassNet(density(**{"target.kind": "components", "target.transform": "sqrt"}), 3)
    with torch.no_grad():
        net.head.networks[0][-1].bias.fill_(-500.0)  # type: ignore[index, union-attr, operator]
    net(Batch(torch.zeros(1, 2, 4, 3))).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.head.parameters())


def test_a_second_backbone_joins_every_cell() -> None:
    recipe = density(**{"backbone.semantic": {"name": "test_vit", "weights": "none"}})
    net = BiomassNet(recipe, 3, semantic=7)
    assert net.embed(Batch(torch.randn(2, 2, 4, 3), torch.randn(2, 7))).shape == (2, 8, 10)


def test_maps_of_blocks_are_averaged_to_the_coarsest() -> None:
    fine = torch.arange(16.0).view(1, 16, 1)  # 4 x 4, row after row
    coarse = torch.tensor([[[100.0], [200.0], [300.0], [400.0]]])
    joined = on_one_grid([fine, coarse])
    assert joined[0].tolist() == [[2.5, 100.0], [4.5, 200.0], [10.5, 300.0], [12.5, 400.0]]


@pytest.mark.parametrize(
    ("name", "out_indices", "shape"),
    [("test_vit", [], (4, 64)), ("test_vit", [2, 4], (4, 128)), ("test_efficientnet", [2, 4], (1, 96))],
)
def test_the_cells_of_a_backbone(name: str, out_indices: list[int], shape: tuple[int, ...]) -> None:
    config = Backbone.model_validate({"name": name, "weights": "none", "pool": "grid", "out_indices": out_indices})
    assert check_backbone(config, 32).shape == shape
    backbone = create_backbone(config, 32).eval()
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        cells: Tensor = backbone(pictures)
    assert cells.shape == (2, *shape)
    mean = create_backbone(config.model_copy(update={"pool": "mean"}), 32).eval()
    with torch.inference_mode():
        torch.testing.assert_close(cells.mean(dim=1), mean(pictures), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone.pool": "mean_std"}, "needs the cells of the backbone; set backbone.pool=grid instead of mean_std"),
        ({"head.kind": "mlp"}, "backbone.pool=grid needs head.kind=density, not mlp"),
        ({"head.kind": "ridge"}, "backbone.pool=grid needs head.kind=density, not ridge"),
        ({"fusion.kind": "late"}, "adds up the cells of all views; fusion.kind and fusion.within must be mean"),
        ({"fusion.within": "film"}, "adds up the cells of all views; fusion.kind and fusion.within must be mean"),
        ({"head.output": "softplus"}, "keeps its values positive itself; head.output must be linear"),
        ({"target.kind": "scalar"}, "predicts grams of each target; target.kind=scalar has one number for all"),
        ({"backbone.name": "bank:mine"}, "needs cells; imported embeddings"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        density().with_overrides(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
