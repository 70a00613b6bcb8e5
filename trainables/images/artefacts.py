"""Artefacts of cameras and sensors, drawn on training pictures: rows of red dots and date stamps."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np

from trainables.images.views import Picture


class Artefacts(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Draws rows of red dots, such as the light of a biomass meter, or an orange date stamp, each in half the cases."""

    def apply(self, img: Picture, **_: object) -> Picture:
        """Draw on a copy of a square picture (size, size, 3), RGB."""
        random = self.random_generator
        return red_dots(img, random) if random.random() < 0.5 else date_stamp(img, random)


def red_dots(picture: Picture, random: np.random.Generator) -> Picture:
    """One or two rows of 3 to 8 glowing red dots at equal distances."""
    side = len(picture)
    gap = side * random.uniform(0.1, 0.2)
    radius = max(1, round(gap * random.uniform(0.15, 0.3)))
    glow = np.zeros((side, side), np.float32)
    for _ in range(random.integers(1, 3)):
        x, y = random.uniform(0, side / 2), random.uniform(0, side)
        for number in range(random.integers(3, 9)):
            cv2.circle(glow, (round(x + number * gap), round(y)), radius, 1.0, cv2.FILLED)
    glow = cv2.GaussianBlur(glow, (0, 0), radius / 2)[..., None]  # type: ignore[assignment]
    red = np.array([255, *random.uniform(0, 90, 2)])
    return np.asarray((1 - glow) * picture + glow * red, dtype=np.uint8)


def date_stamp(picture: Picture, random: np.random.Generator) -> Picture:
    """A date in orange digits beside one of the corners."""
    side = len(picture)
    year, month, day = random.integers([2000, 1, 1], [2030, 13, 29])
    text = random.choice([f"{year} {month:2} {day:2}", f"{day:02}/{month:02}/{year}", f"{year}-{month:02}-{day:02}"])
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, side // 128)
    scale = side * random.uniform(0.3, 0.6) / cv2.getTextSize(text, font, 1.0, thick)[0][0]
    width, height = cv2.getTextSize(text, font, scale, thick)[0]
    margin = side // 32
    x = margin if random.random() < 0.5 else side - margin - width
    y = margin + height if random.random() < 0.5 else side - margin
    colour = (255, float(random.uniform(110, 170)), float(random.uniform(0, 60)))
    return np.asarray(cv2.putText(picture.copy(), text, (x, y), font, scale, colour, thick, cv2.LINE_AA))
