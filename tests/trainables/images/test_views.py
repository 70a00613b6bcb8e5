"""From a file to square views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pasture.errors import InputError
from trainables.images.views import cut, load_views, view_count, view_groups
from trainables.recipe.sections import View

RED, BLUE = (250, 10, 20), (5, 30, 240)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """200 x 100 pixels: the left half red, the right half blue."""
    pixels = np.empty((100, 200, 3), dtype=np.uint8)
    pixels[:, :100], pixels[:, 100:] = RED, BLUE
    path = tmp_path / "photograph.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("size", [32, 100, 128])
def test_halves_are_left_and_right(photograph: Path, size: int) -> None:
    views = load_views(photograph, View(kind="halves", size=size))
    assert views.shape == (2, size, size, 3)
    assert views.dtype == np.uint8
    assert (views[0] == RED).all()
    assert (views[1] == BLUE).all()


@pytest.mark.parametrize("size", [32, 128])
def test_whole_is_the_whole(photograph: Path, size: int) -> None:
    views = load_views(photograph, View(kind="whole", size=size))
    assert views.shape == (1, size, size, 3)
    assert (views[0, :, : size // 2 - 2] == RED).all()
    assert (views[0, :, size // 2 + 2 :] == BLUE).all()


def test_the_whole_beside_its_halves(photograph: Path) -> None:
    kinds = ("whole", "halves", "whole_and_halves")
    whole, halves, three = (load_views(photograph, View.model_validate({"kind": kind, "size": 32})) for kind in kinds)
    assert np.array_equal(three, np.concatenate([whole, halves]))
    whole, halves, three = (
        load_views(photograph, View.model_validate({"kind": k, "size": 32, "tiles": 2})) for k in kinds
    )
    assert np.array_equal(three, np.concatenate([whole, halves]))


@pytest.mark.parametrize(
    ("kind", "tiles", "groups"),
    [
        ("whole", 2, (4,)),
        ("halves", 1, (1, 1)),
        ("whole_and_halves", 1, (1, 1, 1)),
        ("whole_and_halves", 2, (4, 4, 4)),
        ("corners", 1, (5,)),
    ],
)
def test_groups_are_parts_of_the_photograph(kind: str, tiles: int, groups: tuple[int, ...]) -> None:
    assert view_groups(View.model_validate({"kind": kind, "tiles": tiles})) == groups


def test_shrinking_averages_areas() -> None:
    # A chessboard of single pixels is grey from afar; sampling without averaging would show black or white.
    board = np.indices((128, 128)).sum(axis=0) % 2 * 255
    view = cut(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), View(kind="whole", size=32))
    assert np.abs(view.astype(int) - 127).max() <= 1


def test_nothing_is_turned_over() -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.zeros((64, 64), np.uint8)], axis=-1)
    assert np.array_equal(cut(pixels, View(kind="whole", size=64))[0], pixels)


def test_an_odd_width_loses_no_column() -> None:
    pixels = np.zeros((64, 65, 3), dtype=np.uint8)
    assert cut(pixels, View(kind="halves", size=32)).shape == (2, 32, 32, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_other_colour_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture.tif"
    Image.new(mode, (64, 64)).save(path)
    assert load_views(path, View(size=32)).shape == (2, 32, 32, 3)


def test_view_count() -> None:
    assert view_count(View(kind="whole")) == 1
    assert view_count(View(kind="halves")) == 2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("missing", "no such picture"),
        ("truncated", "not a readable picture"),
        ("text", "not a readable picture"),
        ("folder", "Is a directory"),
        ("bomb", "not a readable picture"),
    ],
)
def test_a_bad_file_is_named(photograph: Path, damage: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photograph
    if damage == "missing":
        path = photograph.with_name("other.png")
    elif damage == "truncated":
        content = photograph.read_bytes()
        photograph.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        photograph.write_text("not a picture")
    elif damage == "folder":
        path = photograph.parent
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=reason) as caught:
        load_views(path, View(size=32))
    assert str(path) in str(caught.value)
