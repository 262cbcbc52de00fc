"""What was found in an image. Coordinates: x right, y down, in pixels of the image as it is seen."""

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.errors import needs
from pipeline.inference.overlay import drawn
from pipeline.params.choices import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Detection:
    """What was found in one image.

    `heatmap`: float32 [H, W] in 0..1 at native size, read-only: the probability of a reflection axis, or of a rotation
    centre. `axes` or `centres`, by `task`: those with a score of `threshold` or more, the best first; scores are
    probabilities where the weights are calibrated, as those of the package are. `score`: of the best one whatever the
    threshold, 0 where there is none. `image`: uint8 RGB [H, W, 3], read-only.
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
            "axes": [axis._asdict() for axis in self.axes], "centres": [centre._asdict() for centre in self.centres],
        }  # fmt: skip

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each axis or centre: `kind` and its fields."""
        with needs("pandas"):
            import pandas as pd  # here: the command line does without

        rows = [{"kind": "axis", **axis._asdict()} for axis in self.axes]
        rows += [{"kind": "centre", **centre._asdict()} for centre in self.centres]
        columns = (
            ["kind", "x1", "y1", "x2", "y2", "score"]
            if self.task == "reflection"
            else ["kind", "x", "y", "score", "fold"]
        )
        return pd.DataFrame(rows, columns=columns)

    def overlay(self, heat: bool = True) -> Image.Image:
        """The image with its heat map, axes in green, centres as pink crosses, and the score of each."""
        return drawn(self, heat)
