"""Fusion of views, by hand on small numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainables.network.fusion import Film, Fuse, Mean, ViewAttention
from trainables.recipe.sections import Fusion

VIEWS = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [5.0, 5.0], [7.0, 9.0]]])
"""One picture: two groups of two views of two features."""


def fuse(within: str = "mean", kind: str = "mean", groups: tuple[int, ...] = (2, 2), features: int = 2) -> Fuse:
    torch.manual_seed(0)
    return Fuse(Fusion.model_validate({"within": within, "kind": kind}), groups, features)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean", [[4.0, 5.5]]),
        ("concat", [[2.0, 4.0, 6.0, 7.0]]),  # left first
        ("late", [[2.0, 4.0], [6.0, 7.0]]),
    ],
)
def test_by_hand(kind: str, expected: list[list[float]]) -> None:
    module = fuse(kind=kind)
    assert module(VIEWS)[0].tolist() == expected
    assert module.width == len(expected[0])
    assert not list(module.parameters())


def test_groups_of_different_sizes() -> None:
    assert fuse(kind="late", groups=(1, 3))(VIEWS)[0].tolist() == pytest.approx(
        torch.tensor([[1.0, 2.0], [5.0, 20 / 3]])
    )


@pytest.mark.parametrize("within", ["mean", "film", "attention"])
@pytest.mark.parametrize(
    ("kind", "vectors", "width"), [("mean", 1, 2), ("concat", 1, 4), ("attention", 1, 2), ("late", 2, 2)]
)
def test_shapes(within: str, kind: str, vectors: int, width: int) -> None:
    module = fuse(within, kind)
    assert module.width == width
    assert module(VIEWS.repeat(3, 1, 1)).shape == (3, vectors, width)


def attention_weights(attention: ViewAttention, count: int) -> Tensor:
    """By views that are unit vectors: the fused vector then is the weights."""
    return attention(torch.eye(count).unsqueeze(0))[0]


def test_attention_weights_sum_to_1() -> None:
    torch.manual_seed(0)
    weights = attention_weights(ViewAttention(5), 5)
    assert float(weights.sum().detach()) == pytest.approx(1.0, abs=1e-6)
    assert weights.min() > 0
    assert len(set(weights.tolist())) == 5


def test_attention_by_hand() -> None:
    attention = ViewAttention(2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.zero_()
        attention.score[0].weight[0, 0] = 100.0  # type: ignore[index]
        attention.score[2].weight[0, 0] = 0.01  # type: ignore[index]
    # GELU of a large number is itself: the scores are the first features 1 and 3, where GELU(100) = 100
    weights = torch.tensor([1.0, 3.0]).softmax(dim=0)
    expected = weights[0] * VIEWS[0, 0] + weights[1] * VIEWS[0, 1]
    torch.testing.assert_close(attention(VIEWS[:, :2])[0], expected)


def test_attention_does_not_know_the_order_of_views() -> None:
    torch.manual_seed(0)
    attention, views = ViewAttention(8), torch.randn(2, 5, 8)
    torch.testing.assert_close(attention(views), attention(views[:, [3, 1, 4, 0, 2]]))


def test_film_by_hand() -> None:
    film = Film(2)
    with torch.no_grad():
        for parameter in film.parameters():
            parameter.zero_()
        film.net[0].weight[0] = torch.tensor([1.0, 0.0])  # type: ignore[index]
        film.net[2].weight[:, 0] = torch.tensor([0.5, 0.0, 0.0, 1.0])  # type: ignore[index]
        film.net[2].bias.copy_(torch.tensor([0.0, -1.0, 3.0, 0.0]))  # type: ignore[union-attr]
    # context (2, 4); hidden ReLU(2) = 2; gamma (1, -1), beta (3, 2): views (1, 2) -> (5, 2) and (3, 6) -> (9, 2)
    assert film(VIEWS[:, :2])[0].tolist() == [7.0, 2.0]


def test_film_that_has_learnt_nothing_is_the_mean() -> None:
    film = Film(2)
    with torch.no_grad():
        for parameter in film.net[2].parameters():
            parameter.zero_()
    assert torch.equal(film(VIEWS), Mean()(VIEWS))


@pytest.mark.parametrize(("features", "hidden"), [(8, 32), (64, 32), (66, 33), (768, 384)])
def test_the_width_of_film(features: int, hidden: int) -> None:
    linear = [m for m in Film(features).net if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(features, hidden), (hidden, 2 * features)]


def test_each_group_has_parts_of_its_own_and_the_groups_share_one_attention() -> None:
    module = fuse("attention", "attention")
    first, second = module.within
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert module.attention is not None
    fused = torch.stack([first(VIEWS[:, :2]), second(VIEWS[:, 2:])], dim=1)
    torch.testing.assert_close(module(VIEWS)[:, 0], module.attention(fused))
