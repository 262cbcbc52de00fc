"""Pictures: overlays, contact sheets and precision-recall curves. Images are uint8 RGB [H, W, 3]."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from pipeline.annotations import Annotation, Point
from pipeline.params.choices import Task

GAP, WIDTH = 6, 1200  # pixels: of white between pictures, of a row of them at most
TRUTH = (60, 230, 90)  # green
DISC, CENTRE = (70, 200, 255), (255, 70, 200)  # light blue, pink
CARD, LARGE, LINE = 190, 360, 12  # pixels: the height of an annotated image, small and large, and of the text above
FADE = 0.35  # how bright the photograph stays under a heat map


def overlay(
    image: np.ndarray, heat_map: np.ndarray, annotation: Annotation, task: Task, caption: str, height: int = LARGE
) -> np.ndarray:
    """The image with its marks for the task, as `annotated` draws them, and beside it, faded, under the heat map.

    heat_map: float [H, W] in 0..1, of the image's size.
    """
    reflection = task == "reflection"
    marks = Annotation(annotation.axes, annotation.discs) if reflection else Annotation(centres=annotation.centres)
    heat = colormaps["inferno"](heat_map)[..., :3] * 255
    shown = np.clip(image * FADE * (1 - heat_map[..., None]) + heat, 0, 255).astype(np.uint8)
    left, right = annotated(image, marks, caption, height), annotated(shown, Annotation(), "", height)
    return np.concatenate([left, np.full((len(left), GAP, 3), 255, np.uint8), right], axis=1)


def annotated(image: np.ndarray, annotation: Annotation, caption: str, height: int = CARD) -> np.ndarray:
    """The image under a line of text, with axes and ellipses as lines and rotation centres as crosses with their fold.

    Scaled to `height` pixels; coordinates of the annotation are pixels of the image, x right, y down.
    """
    scale = height / len(image)
    size = max(1, round(image.shape[1] * scale)), height
    card = Image.new("RGB", (size[0], size[1] + LINE), "white")
    card.paste(Image.fromarray(image).resize(size), (0, LINE))
    draw = ImageDraw.Draw(card)

    def place(x: float, y: float) -> Point:
        return x * scale, y * scale + LINE

    for axis in annotation.axes:
        draw.line([place(axis.x1, axis.y1), place(axis.x2, axis.y2)], fill=TRUTH, width=2)
    for disc in annotation.discs:
        outline = [place(*point) for point in disc.polygon()]
        draw.line([*outline, outline[0]], fill=DISC, width=2)
    for centre in annotation.centres:
        x, y = place(centre.x, centre.y)
        draw.line([(x - 5, y), (x + 5, y)], fill=CENTRE, width=2)
        draw.line([(x, y - 5), (x, y + 5)], fill=CENTRE, width=2)
        draw.text((x + 5, y + 1), str(centre.fold), fill=CENTRE)
    draw.rectangle((0, 0, size[0], LINE - 1), fill="white")  # a mark may reach beyond the image
    draw.text((1, 0), caption, fill="black")
    return np.asarray(card)


def contact_sheet(pictures: Sequence[np.ndarray], height: int, width: int) -> Image.Image:
    """Pictures scaled to `height` pixels, side by side in rows of at most `width` pixels, on white."""
    rows: list[list[tuple[int, Image.Image]]] = [[]]  # the left edge of each picture, and the picture
    left = 0
    for pixels in pictures:
        picture = Image.fromarray(pixels).resize((max(1, round(height * pixels.shape[1] / len(pixels))), height))
        if rows[-1] and left + picture.width > width:
            rows.append([])
            left = 0
        rows[-1].append((left, picture))
        left += picture.width + GAP
    sheet = Image.new("RGB", (width, len(rows) * (height + GAP)), "white")
    for number, row in enumerate(rows):
        for left, picture in row:
            sheet.paste(picture, (left, number * (height + GAP)))
    return sheet


def save_curves(curves: dict[str, pd.DataFrame], path: Path, title: str) -> None:
    """Precision against recall of several models, by their names, with lines of equal F1; a dot is the best F1. Each
    has the columns precision, recall and f1.
    """
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=title)
    recall = np.linspace(0.01, 1, 200)
    for level in np.arange(0.1, 1, 0.1):
        precision = level * recall / np.where(2 * recall > level, 2 * recall - level, np.nan)
        axes.plot(recall, precision, color="0.85", linewidth=0.8)
        axes.annotate(f"{level:.1f}", (0.985, float(level / (2 - level))), color="0.6", fontsize=7, ha="right")
    for name, curve in curves.items():
        best = curve.loc[curve["f1"].idxmax()]
        predicted = curve[curve["precision"] > 0]
        (line,) = axes.plot(predicted["recall"], predicted["precision"], label=f"{name}: max F1 {best['f1']:.3f}")
        axes.plot(best["recall"], best["precision"], "o", color=line.get_color())
    axes.legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=130)
