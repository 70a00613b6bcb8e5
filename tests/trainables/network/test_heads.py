"""The head layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.network.heads import MlpHead, mlp
from trainables.recipe.sections import Head

FEATURES = 10


def test_the_layers_of_a_head() -> None:
    layers = list(mlp(Head(hidden=(8, 6, 4), dropout=0.4), FEATURES, 5))
    kinds = [nn.LayerNorm, *[nn.Dropout, nn.Linear, nn.GELU] * 3, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == pytest.approx([0.4, 0.2, 0.12, 0.12])
    widths = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [(10, 8), (8, 6), (6, 4), (4, 5)]


def test_a_linear_head_without_norm() -> None:
    layers = list(mlp(Head(hidden=(), norm=False, activation="relu"), FEATURES, 3))
    assert [type(layer) for layer in layers] == [nn.Dropout, nn.Linear]
    assert [type(layer) for layer in mlp(Head(hidden=(4,), norm=False, activation="relu"), 2, 3)][2] is nn.ReLU


def test_the_number_of_parameters() -> None:
    head = mlp(Head(hidden=(4, 3)), FEATURES, 5)
    by_hand = 2 * 10 + (10 * 4 + 4) + (4 * 3 + 3) + (3 * 5 + 5)
    assert sum(p.numel() for p in head.parameters()) == by_hand == 99


def test_the_first_dropout_can_be_left_out() -> None:
    layers = mlp(Head(hidden=(8, 6), dropout=0.4, input_dropout=False), FEATURES, 5)
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == pytest.approx([0, 0.4, 0.2])


def test_a_hidden_layer_in_proportion() -> None:
    def widths(inputs: int) -> list[int]:
        layers = mlp(Head(hidden_share=0.5), inputs, 5)
        return [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]

    assert widths(40) == [20, 5]
    assert widths(4) == [8, 5]


@pytest.mark.parametrize("kind", ["mlp", "mlp_per_target"])
@pytest.mark.parametrize("output", ["linear", "softplus"])
def test_an_untrained_head_starts_where_it_is_told(kind: str, output: str) -> None:
    head = MlpHead(Head.model_validate({"kind": kind, "output": output, "hidden": [6]}), FEATURES, 3).eval()
    assert len(head.networks) == (1 if kind == "mlp" else 3)
    start = torch.tensor([0.5, 2.0, 30.0])
    head.start_at(start)
    with torch.no_grad():
        for network in head.networks:
            network[-1].weight.zero_()  # type: ignore[index, operator, union-attr]
    torch.testing.assert_close(head(torch.randn(4, FEATURES)), start.expand(4, 3), rtol=1e-4, atol=1e-4)


def test_softplus_keeps_values_positive() -> None:
    assert (MlpHead(Head(output="softplus"), FEATURES, 5)(100 * torch.randn(50, FEATURES)) >= 0).all()
