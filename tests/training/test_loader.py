"""Loading: augmentation moves image and target alike, and depends on (seed, epoch, index) alone."""

import hashlib
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.data.packed.split import PackedSplit, evaluation_images
from pipeline.data.packed.targets import scaled, unscaled_target
from pipeline.data.preparation.prepare import pack
from pipeline.geometry import Letterbox, rotate
from pipeline.params.choices import Augmentation
from pipeline.processes import ALL, Shard
from pipeline.training.loader import TrainingSet, augment, drawn_turn, epoch_batches, rotate_nearest, training_batches

SIZE = 32
RECORDED = "f662095205dd270d973a9db33fc58a5a9826aeda0f40b3fbb5fbe6eea3965fdb"


def split(folder, count, seed):
    """A packed split of random photographs, each with one axis."""
    (folder / "raw").mkdir(parents=True)
    generator, samples = np.random.default_rng(seed), []
    for number in range(count):
        path = folder / "raw" / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(path)
        axis = ReflectionAxis(*generator.uniform(4, SIZE - 4, 4))
        samples.append(Sample(str(number), path, Annotation(axes=(axis,))))
    pack(samples, "reflection", SIZE, folder / "packed.safetensors", "test")
    return PackedSplit(folder / "packed.safetensors", "reflection")


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("splits")
    return [split(folder / str(seed), count, seed) for seed, count in enumerate((5, 4))]


def blob(x, y, size=65, sigma=3.0):
    """A Gaussian of height 1/2 at (x, y) from the centre of the square, x right and y down: [1, S, S]."""
    steps = torch.arange(size) - (size - 1) / 2
    return 0.5 * torch.exp(-((steps - x)[None] ** 2 + (steps - y)[:, None] ** 2) / (2 * sigma**2))[None]


def centroid(heat):
    """(x, y) of a map [1, S, S] relative to its centre."""
    steps = torch.arange(heat.shape[-1]) - (heat.shape[-1] - 1) / 2
    return ((heat[0] * steps).sum() / heat.sum()).item(), ((heat[0] * steps[:, None]).sum() / heat.sum()).item()


def generator(number):
    return np.random.default_rng(number)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("turns", range(-4, 5))
def test_multiples_of_90_degrees_are_exact(size, turns):
    torch.manual_seed(0)
    maps = torch.rand(2, 3, size, size)
    torch.testing.assert_close(rotate(maps, 90.0 * turns), maps.rot90(turns, (2, 3)), rtol=0, atol=1e-5)


def test_positive_angles_turn_anticlockwise_on_the_screen():
    x, y = centroid(rotate(blob(20, 0)[None], 30)[0])
    assert (x, y) == pytest.approx((20 * np.cos(np.pi / 6), -20 * np.sin(np.pi / 6)), abs=0.02)


def test_turning_back_is_the_inverse():
    image = (blob(9, 4) + blob(-12, 7))[None]
    assert (rotate(rotate(image, 23), -23) - image).abs().max() < 0.02
    assert (rotate(image, 23) - image).abs().max() > 0.3


def test_zero_outside():
    turned = rotate(torch.ones(1, 1, 21, 21), 45)[0, 0]
    assert turned[0, 0] == turned[0, -1] == turned[-1, 0] == turned[-1, -1] == 0
    assert turned[10, 10] == pytest.approx(1)


def test_image_and_target_move_together_by_the_angles_meant():
    angles = []
    for number in range(60):
        target = blob(18, 0)
        image, moved = augment(target.expand(3, -1, -1), target[0].numpy(), generator(number), "turned")
        pairs = torch.stack([image.mean(0).flatten(), moved.flatten()])
        assert torch.corrcoef(pairs)[0, 1] > 0.9999
        x, y = centroid(moved)
        angles.append(np.degrees(np.arctan2(-y, x)) % 360)
    quarters = np.round(np.array(angles) / 90)
    tilts = np.array(angles) - 90 * quarters
    assert set(quarters % 4) == {0, 1, 2, 3}
    assert np.abs(tilts).max() < 15.2 and tilts.min() < -10 and tilts.max() > 10


def test_tilted_views_are_only_tilted(splits):
    for number in range(20):
        image, target = augment(blob(18, 0).expand(3, -1, -1), blob(18, 0)[0].numpy(), generator(number), "tilted")
        x, y = centroid(target)
        assert abs(np.degrees(np.arctan2(-y, x))) < 15.2


@pytest.mark.parametrize(
    ("augmentation", "upright", "untilted", "neither"),
    [("released", 5 / 8, 1 / 2, 5 / 16), ("turned", 1 / 4, 0, 0), ("tilted", 1, 0, 0), ("any", 5 / 8, 0, 0)],
)
def test_shares_of_ten_thousand_turns(augmentation, upright, untilted, neither):
    turns = [drawn_turn(generator((7, number)), augmentation) for number in range(10_000)]
    quarters, tilts = map(np.array, zip(*turns))
    for found, share in ((quarters == 0, upright), (tilts == 0, untilted), ((quarters == 0) & (tilts == 0), neither)):
        assert abs(found.mean() - share) <= 4 * np.sqrt(share * (1 - share) / len(turns))
    for number in range(1, 4):
        share = (1 - upright) / 3
        assert abs((quarters == number).mean() - share) <= 4 * np.sqrt(share * (1 - share) / len(turns))
    drawn, most = tilts[tilts != 0], 45 if augmentation == "any" else 15
    assert -most <= drawn.min() < -0.99 * most and 0.99 * most < drawn.max() <= most
    assert abs(drawn.mean()) <= 4 * 15 / np.sqrt(3 * len(drawn))


def marked_square(size=97):
    """An unscaled target, as the loader of DENDI makes it: an axis and a square, which stay inside."""
    marked = np.zeros((size, size), bool)
    marked[33, 20:77] = marked[55:70, 40:55] = True
    return unscaled_target(marked, "reflection", Letterbox(size, size, size), clip=True)


@pytest.mark.parametrize("number", range(40))
def test_released_targets_keep_their_values(number):
    """By nearest neighbour nothing between two values comes up, and what is highest is scaled to one after the turn."""
    raw, drawn = marked_square(), generator(number)
    quarters, tilt = drawn_turn(generator(number), "released")
    _, target = augment(torch.zeros(3, 97, 97), raw, drawn, "released")
    turned = rotate_nearest(np.rot90(raw, quarters), tilt) if tilt else np.rot90(raw, quarters)
    assert set(np.unique(turned)) <= set(np.unique(raw))
    np.testing.assert_array_equal(target[0].numpy(), turned / (turned.max() + np.float32(1e-5)))
    assert target.max() == pytest.approx(1 / (1 + 1e-5 / turned.max()), rel=1e-6)
    assert (target[0].numpy() >= 0.5).sum() == pytest.approx((scaled(raw) >= 0.5).sum(), rel=0.1)


def test_a_released_target_is_scaled_by_what_is_left_of_it():
    """The highest pixel is turned out of the square: the rest becomes the highest."""
    raw = np.zeros((64, 64), np.float32)
    raw[0, 0], raw[32, 32] = 0.2, 0.1
    for number in range(40):
        tilt = drawn_turn(generator(number), "released")[1]
        target = augment(torch.zeros(3, 64, 64), raw, generator(number), "released")[1]
        assert target.max() == pytest.approx(1, abs=2e-4)
        if abs(tilt) > 5:
            assert (target > 0).sum() == 1
    assert not augment(torch.zeros(3, 64, 64), np.zeros_like(raw), generator(0), "released")[1].any()


@pytest.mark.parametrize("number", range(12))
def test_released_images_and_targets_move_together(number, monkeypatch):
    monkeypatch.setattr("pipeline.training.loader.JITTER_SHARE", 0.0)
    target = blob(18, 5)
    image, moved = augment(target.expand(3, -1, -1), target[0].numpy(), generator(number), "released")
    np.testing.assert_allclose(centroid(image[:1]), centroid(moved), atol=0.2)


@pytest.mark.parametrize("degrees", [-15, 3, 15])
def test_both_turns_have_the_same_pivot(degrees):
    """Seen on ramps, on which both are a known function of the place but for rounding, which evens out."""
    ramp = np.arange(101, dtype=np.float32)
    for target in (np.tile(ramp, (101, 1)), np.tile(ramp, (101, 1)).T.copy()):
        smooth = rotate(torch.from_numpy(target)[None, None], degrees, beside=0.5)[0, 0].numpy()
        middle = np.s_[20:80, 20:80]
        assert abs(np.mean(smooth[middle] - rotate_nearest(target, degrees)[middle])) < 0.02


def as_warp_affine(target, degrees):
    """Pixel by pixel, what OpenCV's warpAffine does with INTER_NEAREST and the matrix of albumentations 0.5.2.

    That is getRotationMatrix2D about (S / 2, S / 2), inverted; OpenCV rounds its products to whole 1024ths.
    """
    side, cos, sin = len(target), np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    middle = side / 2
    forward = np.array(
        [
            [cos, sin, (1 - cos) * middle - sin * middle],
            [-sin, cos, sin * middle + (1 - cos) * middle],
            [0, 0, 1],
        ]
    )
    (a, b, c), (d, e, f), _ = np.linalg.inv(forward)
    turned = np.zeros_like(target)
    for y, x in np.ndindex(*target.shape):
        column = (round(a * x * 1024) + round((b * y + c) * 1024) + 512) >> 10
        row = (round(d * x * 1024) + round((e * y + f) * 1024) + 512) >> 10
        if 0 <= column < side and 0 <= row < side:
            turned[y, x] = target[row, column]
    return turned


@pytest.mark.parametrize("size", [32, 65])
@pytest.mark.parametrize("degrees", [-15.0, -7.3, 0.4, 3.0, 14.99])
def test_nearest_turn_is_that_of_opencv(size, degrees):
    target = np.random.default_rng(0).random((size, size)).astype(np.float32)
    np.testing.assert_array_equal(rotate_nearest(target, degrees), as_warp_affine(target, degrees))


def test_nearest_turn_recorded_from_opencv():
    """Digest of cv2.warpAffine's bytes (OpenCV 4.8.1), eight angles at 417 pixels."""
    target = np.random.default_rng(0).integers(0, 256, (417, 417)).astype(np.float32)
    digest = hashlib.sha256()
    for degrees in np.linspace(-15, 15, 8):
        digest.update(rotate_nearest(target, degrees).astype(np.uint8).tobytes())
    assert digest.hexdigest() == RECORDED


def test_turned_and_tilted_views_are_those_that_the_shipped_weights_learned_from():
    """Scaled before, both resampled bilinearly in one turn: the angle is drawn first, then the colours."""
    raw, image = marked_square(), torch.rand(3, 97, 97, generator=torch.Generator().manual_seed(0))
    for augmentation, number in product(("turned", "tilted"), range(6)):
        draws = generator(number)
        angle = (90.0 * draws.integers(4) if augmentation == "turned" else 0.0) + draws.uniform(-15, 15)
        turned = rotate(torch.cat([image, torch.from_numpy(scaled(raw))[None]])[None], angle)[0]
        found, target = augment(image, raw, generator(number), augmentation)
        assert torch.equal(target, turned[3:])
        assert torch.equal(found, turned[:3]) or draws.random() < 0.5  # the colours change


def test_values_stay_in_range():
    for number, augmentation in product(range(20), get_args(Augmentation)):
        torch.manual_seed(number)
        marks = torch.rand(16, 16).round().numpy()
        image, target = augment(torch.rand(3, 16, 16).round(), marks, generator(number), augmentation)
        for values in (image, target):
            assert values.min() >= 0 and values.max() <= 1 + 1e-6
        assert image.dtype == target.dtype == torch.float32
        assert image.shape == (3, 16, 16) and target.shape == (1, 16, 16)


@pytest.mark.parametrize("augmentation", get_args(Augmentation))
def test_colours_change_half_of_the_time_and_targets_never(augmentation):
    plain = torch.tensor([0.3, 0.5, 0.7])[:, None, None].expand(3, 9, 9)
    marks, changed = np.full((9, 9), 0.4, np.float32), 0
    for number in range(400):
        image, target = augment(plain, marks, generator(number), augmentation)
        changed += not torch.allclose(image[:, 4, 4], plain[:, 4, 4], atol=1e-3)
        assert target[0, 4, 4] == pytest.approx(1, abs=1e-4)
    assert 150 < changed < 250


@pytest.mark.parametrize("augmentation", get_args(Augmentation))
def test_item(splits, augmentation):
    dataset = TrainingSet(splits, 0, augmentation)
    assert len(dataset) == 9
    image, target = dataset[1, 7]
    expected = augment(
        torch.from_numpy(splits[1].image(2)).permute(2, 0, 1) / 255,
        splits[1].unscaled_target(2),
        generator((0, 1, 7)),
        augmentation,
    )
    torch.testing.assert_close((image, target), expected)
    with pytest.raises(IndexError):
        dataset[1, 9]


@pytest.mark.parametrize("augmentation", get_args(Augmentation))
def test_items_depend_on_seed_epoch_and_index_alone(splits, augmentation):
    dataset = TrainingSet(splits, 0, augmentation)
    torch.manual_seed(1)
    first = dataset[3, 2]
    torch.manual_seed(2)
    np.random.seed(3)
    for tensor, again in zip(first, TrainingSet(splits, 0, augmentation)[3, 2]):
        assert torch.equal(tensor, again)
    others = (*(dataset[epoch, 2][0] for epoch in range(4, 9)), TrainingSet(splits, 1, augmentation)[3, 2][0])
    assert not all(torch.equal(first[0], other) for other in others)


def epoch_of(splits, epoch, batch=4, workers=0, seed=0):
    """Sizes of the batches of an epoch, and all its images and targets one after another."""
    dataset = TrainingSet(splits, seed, "released")
    batches = list(training_batches(dataset, epoch, epoch_batches(len(dataset), seed, epoch, batch), ALL, workers))
    return [len(images) for images, _ in batches], *(torch.cat(parts) for parts in zip(*batches))


def test_epochs_do_not_depend_on_workers_or_batch_size(splits):
    sizes, images, targets = epoch_of(splits, 1)
    assert sizes == [4, 4, 1]
    assert images.shape == (9, 3, SIZE, SIZE) and targets.shape == (9, 1, SIZE, SIZE)
    for options in ({"workers": 2}, {"batch": 3}):
        again = epoch_of(splits, 1, **options)[1:]
        assert torch.equal(again[0], images) and torch.equal(again[1], targets)


def test_every_sample_once_an_epoch_in_another_order(splits):
    orders = []
    for epoch, seed in ((1, 0), (2, 0), (1, 1)):
        dataset = TrainingSet(splits, seed, "released")
        known = [dataset[epoch, index][0] for index in range(len(dataset))]
        images = epoch_of(splits, epoch, seed=seed)[1]
        orders.append([next(i for i, k in enumerate(known) if torch.equal(k, image)) for image in images])
    assert all(sorted(order) == list(range(9)) for order in orders)
    assert orders[0] != orders[1] and orders[0] != orders[2]


@pytest.mark.parametrize("processes, parts", [(1, 1), (1, 3), (2, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize("images", [1, 4, 9])
def test_shards_make_up_the_batch(images, processes, parts):
    batch = list(range(10, 10 + images))
    dealt = [Shard(rank, processes, parts).deal(batch) for rank in range(processes)]
    assert all(len(shard) == parts for shard in dealt)
    assert sorted(index for shard in dealt for part in shard for index in part) == batch
    sizes = [len(part) for shard in dealt for part in shard]
    assert max(sizes) - min(sizes) <= 1


def test_a_shard_loads_its_parts(splits):
    dataset = TrainingSet(splits, 0, "released")
    parts = list(training_batches(dataset, 1, [[4, 7, 2], [5]], Shard(rank=1, world_size=2, parts=1), 0))
    assert torch.equal(parts[0][0], dataset[1, 7][0][None])
    assert torch.equal(parts[1][0], dataset[1, 5][0][None])  # nothing is left for it, but it must take part


def test_without_augmentation(splits):
    image, target = TrainingSet(splits, seed=0)[3, 6]
    assert torch.equal(image, evaluation_images(splits[1], [1])[0])
    assert torch.equal(target[0], torch.from_numpy(splits[1].target(1)))


def test_evaluation_images_are_not_changed(splits):
    images = evaluation_images(splits[0], [3, 1])
    assert images.shape == (2, 3, SIZE, SIZE) and images.dtype == torch.float32
    expected = np.stack([splits[0].image(number) for number in (3, 1)])
    np.testing.assert_array_equal((images * 255).round().permute(0, 2, 3, 1).numpy(), expected)
