"""A folder that looks like the project to a stage: small parameters, packed splits, a model that sees grey values.

Each picture is black with upright lines, `GREY` values apart, of which the brightest is its axis. The model's
probability is the grey value: a threshold between two values finds the lines above it. All lines have the same length,
and lie so far apart that they do not touch when the F1 spreads them: with `k` wrong lines above the threshold,
precision is 1 / (1 + k).
"""

import json
from functools import reduce
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from scipy.ndimage import grey_dilation

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre, Sample
from pipeline.data.preparation.prepare import pack
from pipeline.model.backbones.catalogue import pretrained
from pipeline.model.checkpoint import ModelRecord, save_model
from pipeline.model.clipsym import build_model
from pipeline.params import changed, load_params
from tests.small import CHANGES

PROJECT = Path(__file__).parents[2]
SIZE, TOP, BOTTOM, STEP = 96, 8, 56, 11
AXIS, WRONG = (5, 0.9), [(5 + STEP * n, 0.1 + 0.1 * n) for n in range(1, 7)]  # column, probability
UNSEEN = 5 + STEP * 7  # column of an axis that the model does not see
THRESHOLDS = {"dendi": 0.25, "sdrw": 0.35, "ldrs": 0.45, "mixed": 0.55, "photos": 0.65, "own": 0.75}
DISC = np.hypot(*np.mgrid[-5:6, -5:6]) <= 5


def write_params(folder, *changes):
    """Leave a small params.yaml with these changes; the parameters."""
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    small = [*CHANGES, f"backbones.tiny.input_size={SIZE}", f"ablation.input_size={SIZE}", *changes]
    (folder / "params.yaml").write_text(yaml.safe_dump(reduce(changed, small, content), sort_keys=False))
    return load_params(folder / "params.yaml")


def heat(lines=(AXIS, *WRONG)):
    """What the model sees in a picture, float32 [SIZE, SIZE]: as stored in eight bits."""
    found = np.zeros((SIZE, SIZE), np.float32)
    for column, value in lines:
        found[TOP : BOTTOM + 1, column] = np.float32(round(255 * value)) / 255
    return found


def truth(*columns):
    """The mask of axes in these columns."""
    found = np.zeros((SIZE, SIZE), bool)
    found[TOP : BOTTOM + 1, columns] = True
    return found


def axes(*columns):
    return Annotation(axes=tuple(ReflectionAxis(column, TOP, column, BOTTOM) for column in columns))


def draw(path, heat_map):
    """Save a heat map as a grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * heat_map).round().astype(np.uint8)).convert("RGB").save(path)
    return path


def packed(
    folder, dataset, split, count, columns=(AXIS[0],), unseen=(), size=SIZE, task="reflection", name="packed/model"
):
    """Pack pictures, alike but for their names, as one split of a data set.

    `columns`: of the marked axes; those of the numbers in `unseen` have another one. Every second has a centre.
    """
    samples = []
    for number in range(count):
        path = draw(folder / "pictures" / dataset / f"{split}-{number}.png", heat())
        marks = axes(*columns, *[UNSEEN] * (number in unseen))
        annotation = Annotation(marks.axes, (), (RotationCentre(9, 9, 2),) * (number % 2))
        samples.append(Sample(f"{dataset}-{split}-{number}", path, annotation))
    pack(samples, task, size, folder / "data" / name / dataset / f"{split}.safetensors", "test")


def save_checkpoint(path, params, thresholds=THRESHOLDS, epoch=7, validation_f1=0.25):
    """A random model under a record with these figures."""
    prompts = [] if params.prompts.kind == "none" else ["cat", "fire hydrant"]
    backbone = pretrained(params.chosen)
    model = build_model(backbone.image_tower(), backbone.embed(prompts), params.decoder, params.train.precision)
    record = ModelRecord.of(params, prompts, epoch, validation_f1, dict(thresholds))
    save_model(path, model, record)
    return model, record


def sees_grey(self, images):
    """A forward of CLIPSym: the logits of the grey values."""
    return images.mean(1, keepdim=True).logit(eps=1e-6)


def spread(values):
    """The maximum over a disc of 5 pixels, by SciPy."""
    return grey_dilation(values, footprint=DISC, mode="constant", cval=0)


def f1(pairs, thresholds):
    """Precision, recall and F1 of pairs of a heat map and a mask, at one threshold or an array of them."""
    true = predicted = actual = 0
    for heat_map, mask in pairs:
        found, marked = spread(heat_map)[..., None] > thresholds, spread(mask.astype(np.uint8))[..., None] > 0
        true, predicted = true + (found & marked).sum((0, 1)), predicted + found.sum((0, 1))
        actual += marked.sum()
    precision, recall = true / np.maximum(1, predicted), true / actual
    figures = precision, recall, 2 * precision * recall / np.maximum(1e-9, precision + recall)
    return figures if np.ndim(thresholds) else tuple(figure.item() for figure in figures)


def read(path):
    return json.loads(Path(path).read_text())


def table(text, heading):
    """Rows, dicts of texts, of the Markdown table that follows a heading."""
    lines = text.split(f"{heading}\n", 1)[1].split("\n")
    lines = lines[next(n for n, line in enumerate(lines) if line.startswith("|")) :]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
