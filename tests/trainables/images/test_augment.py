"""What each strength may do to a picture, and that a seed says what it did."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from trainables.images import d4
from trainables.images.augment import augment, build
from trainables.recipe.sections import Augment, Strength

STRENGTHS: tuple[Strength, ...] = tuple(s for s in get_args(Strength) if s != "none")


@pytest.fixture
def views() -> np.ndarray:
    """Two equal views, so that any difference between the results comes from the augmentation."""
    view = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return np.stack([view, view])


def _flips(view: np.ndarray) -> list[bytes]:
    return [np.ascontiguousarray(f).tobytes() for f in (view, view[::-1], view[:, ::-1], view[::-1, ::-1])]


def test_none_is_nothing() -> None:
    assert build(Augment(strength="none"), 32) is None


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_seed_decides(views: np.ndarray, strength: Strength) -> None:
    pipeline = build(Augment(strength=strength), 32)
    once = [augment(pipeline, views, seed) for seed in range(6)]
    # In another order, by a pipeline of its own, and with the global generator elsewhere.
    np.random.seed(99)
    another = build(Augment(strength=strength), 32)
    again = [augment(another, views, seed) for seed in reversed(range(6))][::-1]
    assert np.array_equal(once, again)
    assert len({o.tobytes() for o in once}) > 1


@pytest.mark.parametrize("strength", STRENGTHS)
def test_shape_and_type_stay_and_the_input_is_left_alone(views: np.ndarray, strength: Strength) -> None:
    before = views.copy()
    for seed in range(10):
        result = augment(build(Augment(strength=strength), 32), views, seed)
        assert result.shape == views.shape
        assert result.dtype == np.uint8
    assert np.array_equal(views, before)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_each_view_is_augmented_on_its_own(views: np.ndarray, strength: Strength) -> None:
    pipeline = build(Augment(strength=strength), 32)
    results = [augment(pipeline, views, seed) for seed in range(20)]
    assert any(not np.array_equal(left, right) for left, right in results)


def test_light_only_flips_and_gives_all_four(views: np.ndarray) -> None:
    pipeline = build(Augment(strength="light"), 32)
    seen = [view.tobytes() for seed in range(40) for view in augment(pipeline, views, seed)]
    assert set(seen) == set(_flips(views[0]))


@pytest.mark.parametrize("strength", ["medium", "heavy"])
def test_stronger_ones_change_pixels(views: np.ndarray, strength: Strength) -> None:
    pipeline = build(Augment(strength=strength), 32)
    laid_down = {np.ascontiguousarray(d4.apply(torch.from_numpy(views[0]), e).numpy()).tobytes() for e in d4.ALL}
    seen = {view.tobytes() for seed in range(20) for view in augment(pipeline, views, seed)}
    assert len(seen - laid_down) > 10


def test_heavy_moves_pixels_further_than_medium() -> None:
    # A sharp edge through the middle: only affine and blur make values between its two sides.
    edge = np.full((2, 32, 32, 3), 60, dtype=np.uint8)
    edge[:, :, 16:] = 180
    shades = {}
    for strength in ("medium", "heavy"):
        pipeline = build(Augment(strength=strength), 32)  # type: ignore[arg-type]
        results = [view for seed in range(20) for view in augment(pipeline, edge, seed)]
        shades[strength] = max(len(np.unique(view.reshape(-1, 3), axis=0)) for view in results)
    assert shades["medium"] <= 3  # two sides and a hole
    assert shades["heavy"] > 3


@pytest.mark.parametrize("field", ["crop", "shrink"])
def test_a_crop_enlarges_and_scale_and_pad_shrinks(field: str) -> None:
    """A white square of half the side in the middle: a quarter of a picture that is otherwise grey, never black."""
    square = np.full((1, 32, 32, 3), 100, dtype=np.uint8)
    square[:, 8:24, 8:24] = 200
    pipeline = build(Augment.model_validate({"strength": "none", field: 0.25}), 32)
    results = [augment(pipeline, square, seed)[0] for seed in range(40)]
    assert all(result.shape == (32, 32, 3) for result in results)
    white, black = (np.array([f(result) for result in results]) for f in (_white, _black))
    if field == "crop":
        assert black.max() == 0
        assert white.max() > 0.5  # a quarter of the area that shows the square alone
    else:
        assert white.max() <= 0.25 + 1e-6
        assert white.min() < 0.05  # of a side scaled to .25 to 1, 1/64 to 1/4
        np.testing.assert_allclose((1 - black) / 4, white, atol=0.06)
    assert np.ptp(white) > 0.1


def test_artefacts_are_red_dots_or_a_date_stamp_on_their_share_of_pictures() -> None:
    grass = np.full((1, 128, 128, 3), (60, 120, 40), np.uint8)
    pipeline = build(Augment(strength="none", artefacts=0.6), 128)
    results = [augment(pipeline, grass, seed)[0] for seed in range(200)]
    assert all(result.shape == (128, 128, 3) and result.dtype == np.uint8 for result in results)
    assert (grass == (60, 120, 40)).all()
    drawn = [(result != grass[0]).any(axis=2) for result in results]
    changed = np.array([mask.any() for mask in drawn])
    assert changed.mean() == pytest.approx(0.6, abs=0.1)
    assert max(mask.mean() for mask in drawn) < 0.5
    red, orange = (
        np.array([((r[..., 0] > 200) & (r[..., 1] >= low) & (r[..., 1] < high)).sum() > 10 for r in results])
        for low, high in ((0, 100), (106, 175))
    )
    assert red[changed].mean() == pytest.approx(0.5, abs=0.15)
    assert orange[changed & ~red].mean() > 0.9
    assert not (red | orange)[~changed].any()
    again = [augment(pipeline, grass, seed)[0] for seed in range(200)]
    assert np.array_equal(results, again)


def _white(picture: np.ndarray) -> float:
    return float((picture > 150).mean())


def _black(picture: np.ndarray) -> float:
    return float((picture < 50).mean())
