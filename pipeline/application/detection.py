"""What was found in an image. Coordinates: x right, y down, in pixels of the image as it is seen."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from pipeline.detection.axes import DetectedAxis, DetectedCentre
from pipeline.errors import needs
from pipeline.params.choices import Task

if TYPE_CHECKING:
    import pandas as pd

AXIS, CENTRE = (60, 230, 90), (255, 70, 200)  # green, pink
ROWS = 256  # of an overlay, drawn at a time


@dataclass(frozen=True)
class Detection:
    """What was found in one image.

    `heatmap`: float32 [H, W] in 0..1 at native size, read-only: the probability of a reflection axis, or of a rotation
    centre. `axes` or `centres`, by `task`: those with a score of `threshold` or more, the best first. `score`: of the
    best one whatever the threshold, 0 where there is none. `image`: uint8 RGB [H, W, 3], read-only.
    """

    task: Task
    heatmap: np.ndarray = field(repr=False, compare=False)
    axes: tuple[DetectedAxis, ...]
    centres: tuple[DetectedCentre, ...]
    score: float
    threshold: float
    image: np.ndarray = field(repr=False, compare=False)

    @property
    def symmetric(self) -> bool:
        """Whether anything was found."""
        return bool(self.axes or self.centres)

    def above(self, threshold: float) -> "Detection":
        """The same without the axes or centres of a lower score."""
        axes = tuple(axis for axis in self.axes if axis.score >= threshold)
        centres = tuple(centre for centre in self.centres if centre.score >= threshold)
        return replace(self, axes=axes, centres=centres, threshold=threshold)

    def to_dict(self) -> dict:
        """Plain numbers and lists: everything but the heat map and the image."""
        height, width = self.heatmap.shape
        return {
            "task": self.task, "width": width, "height": height, "symmetric": self.symmetric, "score": self.score,
            "threshold": self.threshold,
            "axes": [asdict(axis) for axis in self.axes], "centres": [asdict(centre) for centre in self.centres],
        }  # fmt: skip

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each axis or centre: `kind` and its fields."""
        with needs("pandas"):
            import pandas as pd  # here: the command line does without

        rows = [{"kind": "axis", **asdict(axis)} for axis in self.axes]
        rows += [{"kind": "centre", **asdict(centre)} for centre in self.centres]
        columns = (
            ["kind", "x1", "y1", "x2", "y2", "score"]
            if self.task == "reflection"
            else ["kind", "x", "y", "score", "fold"]
        )
        return pd.DataFrame(rows, columns=columns)

    def overlay(self, heat: bool = True) -> Image.Image:
        """The image under its heat map, with axes in green and centres as pink crosses."""
        picture = Image.fromarray(self.image)
        for top in range(
            0, len(self.image) if heat else 0, ROWS
        ):  # floats of the whole would take ten times its memory
            weight = 0.75 * self.heatmap[top : top + ROWS, :, None]
            pixels = self.image[top : top + ROWS] * (1 - weight) + weight * np.array([255, 60, 0])
            picture.paste(Image.fromarray(pixels.astype(np.uint8)), (0, top))
        draw, unit = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 250))
        for axis in self.axes:
            draw.line([axis.x1, axis.y1, axis.x2, axis.y2], fill=AXIS, width=2 * unit)
        for centre in self.centres:
            x, y, arm = centre.x, centre.y, 6 * unit
            draw.line([x - arm, y, x + arm, y], fill=CENTRE, width=2 * unit)
            draw.line([x, y - arm, x, y + arm], fill=CENTRE, width=2 * unit)
        return picture
