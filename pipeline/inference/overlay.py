"""A picture with what was found in it: heat, lines, crosses and their scores.

Lines and text have a dark rim, so that they show on any ground; their size follows the picture's longer side.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from pipeline.detection.axes import DetectedAxis
    from pipeline.detection.centres import DetectedCentre
    from pipeline.inference.detection import Detection

AXIS, CENTRE, RIM, HEAT = (60, 230, 90), (255, 70, 200), (15, 15, 15), (255, 60, 0)  # green, pink, black, orange
FLOOR = 0.25  # heat that leaves the picture as it is: away from symmetries a model answers 0.05 to 0.2
ROWS = 256  # mixed at a time: floats of the whole would take ten times its memory
ALONG = (0.5, 0.3, 0.7, 0.15, 0.85, 0.0, 1.0)  # where on a line its score may stand, the best first
Box = tuple[float, float, float, float]


def drawn(found: "Detection", heat: bool) -> Image.Image:
    """The image, with its heat map where `heat`, axes in green, centres as pink crosses, a score at each."""
    picture = Image.fromarray(found.image)
    if heat:
        _warm(picture, found.image, found.heatmap)
    pen = _Pen(picture)
    arm = 5 * pen.width
    lines = [([(axis.x1, axis.y1), (axis.x2, axis.y2)], AXIS) for axis in found.axes]
    for centre in found.centres:
        x, y = centre.x, centre.y
        lines += [([(x - arm, y), (x + arm, y)], CENTRE), ([(x, y - arm), (x, y + arm)], CENTRE)]
    for width, rim in ((pen.width + 2 * pen.rim, True), (pen.width, False)):  # no rim over another line
        for points, colour in lines:
            pen.line(points, RIM if rim else colour, width)
    for axis in found.axes:
        pen.beside_line(axis, f"{axis.score:.2f}")
    for centre in found.centres:
        pen.beside_cross(centre, arm, f"{centre.turns} {centre.score:.2f}".lstrip())
    if not found.symmetric:
        pen.text([(0, 0)], "nothing found", (255, 255, 255))
    return picture


def _warm(picture: Image.Image, image: np.ndarray, heat_map: np.ndarray) -> None:
    """Mix what is hotter than the floor into the picture of `image`."""
    for top in range(0, len(image), ROWS):
        weight = 0.75 * np.clip((heat_map[top : top + ROWS, :, None] - FLOOR) / (1 - FLOOR), 0, 1)
        pixels = image[top : top + ROWS] * (1 - weight) + weight * np.array(HEAT)
        picture.paste(Image.fromarray(pixels.astype(np.uint8)), (0, top))


class _Pen:
    """Draws on a picture, and keeps its words apart."""

    def __init__(self, picture: Image.Image) -> None:
        longest = max(picture.size)
        self.width, self.size = max(2, round(longest / 300)), picture.size
        self.rim, letters = max(1, round(self.width / 3)), max(12, longest / 40)
        self._draw, self._font, self._outline = ImageDraw.Draw(picture), ImageFont.load_default(letters), letters // 12
        self._taken: list[Box] = []

    def line(self, points: list[tuple[float, float]], colour: tuple[int, int, int], width: int) -> None:
        """A line with round ends."""
        self._draw.line(points, fill=colour, width=width)
        for x, y in points:
            self._draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=colour)

    def beside_line(self, axis: "DetectedAxis", text: str) -> None:
        """A word beside an axis, where there is room for it."""
        dx, dy = axis.x2 - axis.x1, axis.y2 - axis.y1
        length, (width, height) = math.hypot(dx, dy) or 1, self._extent(text)
        away = (abs(dy) * width + abs(dx) * height) / (2 * length) + 2 * self.width
        across = away * dy / length, -away * dx / length
        points = [(axis.x1 + at * dx, axis.y1 + at * dy) for at in ALONG]
        self.text([(x + side * across[0], y + side * across[1]) for x, y in points for side in (1, -1)], text, AXIS)

    def beside_cross(self, centre: "DetectedCentre", arm: float, text: str) -> None:
        """A word in one of the four corners of a cross."""
        away = [(arm + side) / 2 for side in self._extent(text)]
        corners = [(1, -1), (-1, -1), (1, 1), (-1, 1)]
        self.text([(centre.x + right * away[0], centre.y + down * away[1]) for right, down in corners], text, CENTRE)

    def text(self, places: list[tuple[float, float]], text: str, colour: tuple[int, int, int]) -> None:
        """Words about the first place where they cover no others, moved into the picture; else about the first."""
        boxes = [self._box(place, text) for place in places]
        box = next((box for box in boxes if not any(_meet(box, other) for other in self._taken)), boxes[0])
        self._taken.append(box)
        self._draw.text(
            ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, colour, self._font, "mm",
            stroke_width=self._outline, stroke_fill=RIM,
        )  # fmt: skip

    def _extent(self, text: str) -> tuple[float, float]:
        left, top, right, bottom = self._draw.textbbox((0, 0), text, self._font, stroke_width=self._outline)
        return right - left, bottom - top

    def _box(self, place: tuple[float, float], text: str) -> Box:
        (width, height), (right, bottom) = self._extent(text), self.size
        left = min(max(place[0] - width / 2, 0), max(right - width, 0))
        top = min(max(place[1] - height / 2, 0), max(bottom - height, 0))
        return left, top, left + width, top + height


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
