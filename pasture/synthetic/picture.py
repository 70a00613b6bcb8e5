"""The picture of a synthetic paddock, drawn from its grams: so many blades, clover leaves and straws for each.

Lengths are in pixels of a 2000 x 1000 picture and scaled for other sizes; colours are BGR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pasture.synthetic.truth import Light, Look, Plot
from pasture.targets import Array

Image = NDArray[np.uint8]
Points = NDArray[np.int32]
Colour = tuple[float, float, float]
"""Blue, green and red."""

BLADES_PER_G: Final = 42.0
STRAWS_PER_G: Final = 90.0
TREFOILS_PER_G: Final = 20.0

BATCHES: Final = 40
"""Batches a plant kind is drawn in: one colour and one depth each. Enough for variety, few enough to be quick."""

SUBPIXEL_BITS: Final = 4


def draw_picture(plot: Plot, width: int, height: int) -> Image:
    """The picture (height, width, 3) of `plot`."""
    rng = np.random.default_rng(plot.entropy)
    scale = float(np.sqrt(width * height / 2e6)) * plot.visit.look.zoom
    canvas = _soil(rng, plot.visit.soil, width, height)
    strokes = [stroke for kind in (_litter, _straws, _blades, _trefoils) for stroke in kind(rng, plot, scale, canvas)]
    for _, stroke in sorted(strokes, key=itemgetter(0)):
        stroke()
    return _photograph(rng, canvas, plot.visit.light, plot.visit.look)


def _count(plot: Plot, grams: float, per_gram: float) -> int:
    """Number of plants that are drawn for some grams."""
    look = plot.visit.look
    return round(plot.visible * look.visible * float(grams**look.crowding) * per_gram)


def _soil(rng: Generator, colour: Colour, width: int, height: int) -> Image:
    relief = np.ones((height, width), dtype=np.float32)
    for cell, strength in ((200, 0.08), (40, 0.08), (8, 0.16), (2, 0.14)):
        relief += strength * _noise(rng, width, height, cell)
    return np.clip(relief[..., None] * np.array(colour, dtype=np.float32), 0, 255).astype(np.uint8)


def _noise(rng: Generator, width: int, height: int, cell: int) -> NDArray[np.float32]:
    """Smooth noise (height, width) of unit size that varies over about `cell` pixels."""
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


Stroke = tuple[float, Callable[[], None]]
"""Depth in [0, 1], 1 nearest the camera, and what draws it."""


def _litter(rng: Generator, plot: Plot, scale: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of straw on the soil, below all plants."""
    look = plot.visit.look
    if look.litter:
        lines = _curves(rng, round(look.litter * STRAWS_PER_G), 90, 0.1, scale, canvas)
        for depth, stroke in _line_strokes(rng, lines, look.straw, 4 * scale, canvas):
            yield depth - 1, stroke


def _straws(rng: Generator, plot: Plot, scale: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of dead straws."""
    lines = _curves(rng, _count(plot, plot.dead, STRAWS_PER_G), 130, 0.1, scale, canvas)
    return _line_strokes(rng, lines, plot.visit.look.straw, 4 * scale, canvas)


def _blades(rng: Generator, plot: Plot, scale: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of green blades of the plot's species."""
    lines = _curves(rng, _count(plot, plot.green, BLADES_PER_G), plot.species.blade_length, 0.2, scale, canvas)
    colour = _tinted(plot.species.blade_colour, plot.visit.look)
    return _line_strokes(rng, lines, colour, plot.species.blade_width * scale, canvas)


def _tinted(colour: Colour, look: Look) -> Colour:
    blue, green, red = (value * factor for value, factor in zip(colour, look.tint, strict=True))
    return blue, green, red


def _line_strokes(rng: Generator, lines: Points, colour: Colour, thickness: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of curved lines (n, points, 2); each has a dark edge on one side, which reads as its shadow."""
    for batch in np.array_split(lines, BATCHES):
        depth = rng.random()
        tint = _tint(rng, colour, depth)
        size = max(1, round(thickness * rng.uniform(0.6, 1.4)))

        def draw(batch: Points = batch, tint: Array = tint, size: int = size) -> None:
            offset = (size << SUBPIXEL_BITS) // 2
            for points, ink in ((batch + offset, tint * 0.35), (batch, tint)):
                cv2.polylines(canvas, list(points), False, ink.tolist(), size, cv2.LINE_8, SUBPIXEL_BITS)

        yield depth, draw


def _trefoils(rng: Generator, plot: Plot, scale: float, canvas: Image) -> Iterator[Stroke]:
    """Strokes of clover leaves: three leaflets each, in patches."""
    count = _count(plot, plot.clover, TREFOILS_PER_G)
    colour = _tinted((60, 165, 100), plot.visit.look)
    centres = _scatter(rng, count, 25, 110 * scale, canvas)
    radii = 15 * scale * rng.uniform(0.7, 1.35, size=count)
    turns = rng.uniform(0, 2 * np.pi, size=(count, 1)) + np.arange(3) * (2 * np.pi / 3)
    outlines = _fixed(centres[:, None, None] + radii[:, None, None, None] * _leaflet(turns))
    for batch in np.array_split(outlines, BATCHES):
        depth = rng.random()
        tint = _tint(rng, colour, depth)

        def draw(batch: Points = batch, tint: Array = tint) -> None:
            shadow, vein = (tint * 0.35).tolist(), np.minimum(tint * 1.2 + 12, 255).tolist()
            # Point 0 is a leaflet's tip, point 6 its base.
            for trefoil, veins in zip(batch, np.ascontiguousarray(batch[:, :, ::6]), strict=True):
                for leaflet in trefoil + (3 << SUBPIXEL_BITS):
                    cv2.fillConvexPoly(canvas, leaflet, shadow, cv2.LINE_8, SUBPIXEL_BITS)
                for leaflet in trefoil:
                    cv2.fillConvexPoly(canvas, leaflet, tint.tolist(), cv2.LINE_8, SUBPIXEL_BITS)
                cv2.polylines(canvas, list(veins), False, vein, 1, cv2.LINE_8, SUBPIXEL_BITS)

        yield depth, draw


def _leaflet(turns: Array) -> Array:
    """Outlines (..., 12, 2) of leaflets of unit radius that start at the origin, one along each angle (...)."""
    angle = np.arange(12) * (2 * np.pi / 12)
    along, across = 1.05 + np.cos(angle), (0.85 + 0.15 * np.cos(angle)) * np.sin(angle)
    cos, sin = np.cos(turns)[..., None], np.sin(turns)[..., None]
    return np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1)


def _curves(rng: Generator, count: int, length: float, bend: float, scale: float, canvas: Image) -> Points:
    """`count` bent lines (count, 6, 2) that start in tussocks; `bend` is the spread of their turn in radians."""
    start = _scatter(rng, count, 14, 45 * scale, canvas)
    heading = rng.uniform(0, 2 * np.pi, size=count)[:, None] + rng.normal(0, bend, size=count)[:, None] * np.arange(5)
    step = (length * scale / 5 * rng.uniform(0.4, 1.4, size=count))[:, None]
    moves = np.stack([step * np.cos(heading), step * np.sin(heading)], axis=-1)
    # Centred on the root, so that long lines too keep most of their length within the frame.
    path = np.concatenate([np.zeros((count, 1, 2)), moves.cumsum(axis=1)], axis=1)
    return _fixed(start[:, None] + path - path.mean(axis=1, keepdims=True))


def _scatter(rng: Generator, count: int, per_cluster: int, spread: float, canvas: Image) -> Array:
    """Positions (count, 2) in pixels, in clusters of about `per_cluster`; wrapped, so that no gram leaves the frame."""
    frame = np.array([canvas.shape[1], canvas.shape[0]])
    hearts = rng.uniform(0, frame, size=(count // per_cluster + 1, 2))
    position = hearts[rng.integers(len(hearts), size=count)] + rng.normal(0, spread, size=(count, 2))
    return np.asarray(np.mod(position, frame), dtype=np.float64)


def _fixed(points: Array) -> Points:
    """Pixels as the fixed-point integers that OpenCV draws at sub-pixel positions."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _tint(rng: Generator, colour: Colour, depth: float) -> Array:
    """`colour` varied, and darker the deeper it lies in the sward."""
    shade = (0.6 + 0.5 * depth) * rng.uniform(0.85, 1.15)
    return np.clip(np.array(colour) * shade * rng.uniform(0.94, 1.06, size=3), 0, 255)


def _photograph(rng: Generator, canvas: Image, light: Light, look: Look) -> Image:
    """`canvas` in the light of its date, a little out of focus, with uneven shade and sensor noise."""
    height, width = canvas.shape[:2]
    gains = light.gain * np.array([1 - light.warmth, 1.0, 1 + light.warmth])
    curve = 255 * (np.arange(256)[:, None] / 255) ** light.gamma * gains
    lit = cv2.LUT(canvas, np.clip(curve, 0, 255).astype(np.uint8)[None])
    if look.blur:
        lit = cv2.GaussianBlur(lit, (0, 0), look.blur * np.sqrt(width * height / 2e6))
    soft = cv2.GaussianBlur(lit, (3, 3), 0).astype(np.float32)
    soft *= (1 + look.shade * _noise(rng, width, height, max(width // 4, 1)))[..., None]
    soft += 4 * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(soft, 0, 255).astype(np.uint8)
