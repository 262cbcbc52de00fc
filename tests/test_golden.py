"""Parity with the released code: its recorded outputs on inputs made for the purpose (tests/golden/README.md).

Another folder of the same form is checked with `pytest tests/test_golden.py --golden DIR`.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.annotations import Annotation, ReflectionAxis
from pipeline.data.formats import dendi
from pipeline.data.packed.targets import blurred, mask, reflection_instances, rotation_orders, scaled, unscaled_target
from pipeline.data.reading.images import read_photograph
from pipeline.geometry import Letterbox
from pipeline.model.backbones.catalogue import IMAGENET
from pipeline.model.clipsym import Decoder, from_released
from pipeline.scoring.average_precision import LIMITS, average_precisions, axes_ranked
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count
from pipeline.training.loop import alpha_focal
from pipeline.training.state import schedule_factor
from tests.conversion import released_equisym as equisym

SIZE = 417
TASKS = ("reflection", "rotation")


def numbers(arrays, ending):
    """The image numbers for which keys `.../NUMBER/ENDING` were recorded."""
    return sorted({int(key.split("/")[-2]) for key in arrays if key.endswith("/" + ending)})


@pytest.fixture
def dendi_samples(golden):
    """Task -> every image with its annotation, in the order of `all`; the split files agree with them."""
    return {
        task: [s for split in ("train", "val", "test") for s in dendi.samples(golden / "dendi", [], split, task, ())]
        for task in TASKS
    }


@pytest.mark.parametrize("task", TASKS)
def test_dendi_masks(golden, dendi_samples, task):
    expected = np.load(golden / "dendi_expected.npz")
    recorded = [number for number in numbers(expected, "mask") if f"{task}/{number}/mask" in expected]
    assert len(recorded) == len(dendi_samples[task])
    paint, key = {"reflection": (reflection_instances, "instance"), "rotation": (rotation_orders, "order_index")}[task]
    for number in recorded:
        annotation, shape = dendi_samples[task][number].annotation, expected[f"{task}/{number}/mask"].shape
        np.testing.assert_array_equal(mask(annotation, task, *shape), expected[f"{task}/{number}/mask"])
        np.testing.assert_array_equal(paint(annotation, *shape), expected[f"{task}/{number}/{key}"])


@pytest.mark.parametrize("task", TASKS)
def test_dendi_targets_and_regions(golden, dendi_samples, task):
    expected = np.load(golden / "dendi_expected.npz")
    recorded = [number for number in numbers(expected, "target417") if f"{task}/{number}/target417" in expected]
    assert recorded
    for number in recorded:
        annotation, shape = dendi_samples[task][number].annotation, expected[f"{task}/{number}/eval_mask"].shape
        letterbox, marked = Letterbox(*shape, SIZE), mask(annotation, task, *shape)
        np.testing.assert_array_equal(marked, expected[f"{task}/{number}/eval_mask"])
        target = scaled(unscaled_target(marked, task, letterbox, clip=True))
        np.testing.assert_allclose(target, expected[f"{task}/{number}/target417"], atol=1e-5)
        np.testing.assert_array_equal(letterbox.region, expected[f"{task}/{number}/region417"])


def test_dendi_images(golden, dendi_samples):
    expected = np.load(golden / "dendi_expected.npz")
    recorded = [int(key.split("/")[1]) for key in expected if key.startswith("image417/")]
    assert recorded
    for number in recorded:
        image = read_photograph(dendi_samples["reflection"][number].image).pixels
        square = Letterbox(*image.shape[:2], SIZE).image(image).transpose(2, 0, 1)[:, ::8, ::8]
        mean, std = (np.array(values).reshape(3, 1, 1) for values in IMAGENET)
        recorded_bytes = (expected[f"image417/{number}"] * std + mean) * 255
        np.testing.assert_allclose(square, recorded_bytes, atol=1e-3)  # every byte the same


def test_lines(golden):
    expected, inputs = np.load(golden / "lines_expected.npz"), json.loads((golden / "lines.json").read_text())
    assert inputs
    for number, entry in inputs.items():
        width, height = entry["size"]
        annotation = Annotation(axes=tuple(ReflectionAxis(*line) for line in entry["lines"]))
        instances = reflection_instances(annotation, height, width)
        np.testing.assert_array_equal(instances, expected[f"{number}/instance"])
        blur = blurred(instances > 0, "reflection", np.arange(height), np.arange(width))
        np.testing.assert_allclose(blur, expected[f"{number}/blurred"], atol=1e-5)
        ends = [[*left, *right] for left, right in (axis.ordered_ends() for axis in annotation.axes)]
        relative = np.array(ends) / [width, height, width, height]
        np.testing.assert_allclose(relative, expected[f"{number}/coords"], atol=1e-5)


def test_f1(golden):
    expected = np.load(golden / "f1_expected.npz")
    np.testing.assert_array_equal(THRESHOLDS, expected["thresholds"])
    total = F1Counts.zero()
    for number in numbers(expected, "pred"):
        total += count(expected[f"{number}/pred"], expected[f"{number}/gt"].astype(bool))
        np.testing.assert_array_equal(total.true, expected[f"{number}/cum_tp"])
        np.testing.assert_array_equal(total.predicted, expected[f"{number}/cum_pos_pred"])
        np.testing.assert_array_equal(np.full(100, total.actual), expected[f"{number}/cum_pos_label"])
    np.testing.assert_allclose(total.precision, expected["precision"], atol=1e-5)
    np.testing.assert_allclose(total.recall, expected["recall"], atol=1e-5)
    np.testing.assert_allclose(total.f1, expected["f1"], atol=1e-5)


def test_axis_average_precision(golden):
    """Of AxisSym, which is no part of the released CLIPSym."""
    expected = np.load(golden / "axis_ap_expected.npz")
    np.testing.assert_array_equal(expected["thresholds"], LIMITS)
    ranks = []
    for number in range(int(expected["images"])):
        keys = ("lines", "scores", "truth", "disc_mask", "disc_centres")
        found = axes_ranked(*(expected[f"{number}_{key}"] for key in keys))
        np.testing.assert_array_equal(found.right, expected[f"{number}_tp"])
        ranks.append(found)
    assert any(len(expected[f"{number}_disc_centres"]) and found.right.any() for number, found in enumerate(ranks))
    np.testing.assert_allclose(average_precisions(ranks), expected["sap"], atol=1e-6, rtol=0)


def test_focal_loss(golden):
    expected = np.load(golden / "focal_loss_expected.npz")
    logits, target = torch.from_numpy(expected["logits"]), torch.from_numpy(expected["target"])
    recorded = [key for key in expected if key.startswith("loss_alpha_")]
    assert recorded
    for key in recorded:
        loss = alpha_focal(logits, target, alpha=float(key.removeprefix("loss_alpha_")), gamma=2)
        np.testing.assert_allclose(loss.numpy(), expected[key], atol=1e-5)


@pytest.mark.parametrize("upsampler", ["equivariant", "plain"])
def test_decoder(golden, upsampler):
    tensors = load_file(golden / f"decoder_{upsampler}.safetensors")
    features = [tensors[f"input.activation.{number}"] for number in range(3)]
    text, expected = tensors["input.text_embeddings"], tensors["expected.logits"]
    width, side = tensors["reduces.0.weight"].shape[0], expected.shape[-1] // 16
    decoder = Decoder([f.shape[-1] for f in features], text.shape[1], len(text), width, upsampler, "C8", 2)
    weights = {name: value for name, value in tensors.items() if not name.startswith(("input.", "expected."))}
    decoder.load_state_dict(from_released(weights))
    for mode in (False, True):
        with torch.no_grad():
            logits = decoder.train(mode)(features, text, (side, side))
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_learning_rates(golden):
    recorded = json.loads((golden / "lr_schedules.json").read_text())
    epochs, first = recorded["num_epochs"], recorded["first_entry_is_epoch"]
    assert recorded["lr_by_epoch"]
    for schedule, expected in recorded["lr_by_epoch"].items():
        rates = [
            recorded["base_lr"]
            * schedule_factor(schedule, epoch, epochs, recorded["lr_decay"], recorded["warmup_epochs"])
            for epoch in range(first, first + len(expected))
        ]
        np.testing.assert_allclose(rates, expected, rtol=1e-9)


def test_equisym(golden, tmp_path):
    """The released network from a file as its training writes it: features, orientations, probability."""
    recorded = equisym.recording(golden)
    task = equisym.task_of(recorded)
    path = equisym.written(tmp_path / "released.pt", equisym.state_of(recorded), rot_data=int(task == "rotation"))
    equisym.assert_agrees(equisym.read(path, task)[0], recorded)
