"""Seeds say where we are, and leave no trace."""

from __future__ import annotations

from itertools import product

import torch

from trainables.recipe.seeds import mix, torch_seed

CPU = torch.device("cpu")


def test_mix_is_pinned_and_fits_32_bits() -> None:
    # A change here changes every result of every recipe.
    assert mix(0, 0) == 2968811710
    assert mix(7, 3, 1) == 1060801321
    assert all(0 <= mix(0, fold, epoch) < 2**32 for fold, epoch in product(range(5), range(50)))


def test_mix_tells_places_apart() -> None:
    places = [(s, f, e) for s, f, e in product(range(4), range(5), range(1, 30))]
    assert len({mix(*place) for place in places}) == len(places)
    assert mix(1, 2) != mix(2, 1)


def test_torch_seed_decides_inside_and_changes_nothing_outside() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(4)
    torch.manual_seed(5)
    with torch_seed(1, CPU):
        first = torch.rand(4)
    assert torch.equal(torch.rand(4), undisturbed)
    with torch_seed(1, CPU):
        assert torch.equal(torch.rand(4), first)
    with torch_seed(2, CPU):
        assert not torch.equal(torch.rand(4), first)
