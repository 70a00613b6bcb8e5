"""The eight elements really are the dihedral group, and they act as numpy's rot90 and flip do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainables.images import d4

MARKED = torch.arange(2 * 3 * 3 * 3).reshape(2, 3, 3, 3)


def _element_of(pictures: torch.Tensor) -> int:
    """The one element that takes MARKED to `pictures`."""
    matches = [e for e in d4.ALL if torch.equal(d4.apply(MARKED, e), pictures)]
    assert len(matches) == 1
    return matches[0]


def test_the_elements_are_distinct_and_the_first_does_nothing() -> None:
    assert len({tuple(d4.apply(MARKED, e).flatten().tolist()) for e in d4.ALL}) == len(d4.ALL) == 8
    assert torch.equal(d4.apply(MARKED, d4.IDENTITY), MARKED)


def test_closure_and_the_latin_square() -> None:
    table = [[_element_of(d4.apply(d4.apply(MARKED, a), b)) for b in d4.ALL] for a in d4.ALL]
    for line in (*table, *zip(*table, strict=True)):
        assert sorted(line) == list(d4.ALL)
    assert any(table[a][b] != table[b][a] for a in d4.ALL for b in d4.ALL), "D4 does not commute"


@pytest.mark.parametrize("element", d4.ALL)
def test_inverse_is_the_inverse_of_the_table(element: int) -> None:
    undoing = [b for b in d4.ALL if torch.equal(d4.apply(d4.apply(MARKED, element), b), MARKED)]
    assert undoing == [d4.inverse(element)]


@given(pictures=st.integers(1, 5).flatmap(lambda s: arrays(np.uint8, (2, s, s, 3))), element=st.sampled_from(d4.ALL))
def test_an_element_and_its_inverse_cancel(pictures: np.ndarray, element: int) -> None:
    there = d4.apply(torch.from_numpy(pictures), element)
    assert np.array_equal(d4.apply(there, d4.inverse(element)).numpy(), pictures)
    back = d4.apply(torch.from_numpy(pictures), d4.inverse(element))
    assert np.array_equal(d4.apply(back, element).numpy(), pictures)


@pytest.mark.parametrize("element", d4.ALL)
def test_numpy_agrees(element: int) -> None:
    for view, turned in zip(MARKED.numpy(), d4.apply(MARKED, element).numpy(), strict=True):
        flipped = np.fliplr(view) if element >= 4 else view
        assert np.array_equal(turned, np.rot90(flipped, element % 4))


def test_the_named_elements() -> None:
    view = MARKED[0].numpy()
    assert np.array_equal(d4.apply(MARKED[0], d4.HORIZONTAL).numpy(), view[:, ::-1])
    assert np.array_equal(d4.apply(MARKED[0], d4.VERTICAL).numpy(), view[::-1])
    only_flips = [view, view[::-1], view[:, ::-1], view[::-1, ::-1]]
    for element in d4.FLIPS:
        assert any(np.array_equal(d4.apply(MARKED[0], element).numpy(), flip) for flip in only_flips)


def test_tta_names() -> None:
    assert d4.tta_elements("none") == (0,)
    assert set(d4.tta_elements("flips")) == set(d4.FLIPS)
    assert len(d4.FLIPS) == 4
    assert d4.tta_elements("d4") == tuple(range(8))
