"""Loading: augmentation moves image and target alike, and depends on (seed, epoch, index) alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.loading import (
    ALL,
    Share,
    TrainingSet,
    augment,
    epoch_batches,
    evaluation_images,
    rotate,
    training_batches,
)
from pipeline.packing import PackedSplit
from pipeline.preparing import pack

SIZE = 32


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
        image, moved = augment(target.expand(3, -1, -1), target, generator(number), True)
        pairs = torch.stack([image.mean(0).flatten(), moved.flatten()])
        assert torch.corrcoef(pairs)[0, 1] > 0.9999
        x, y = centroid(moved)
        angles.append(np.degrees(np.arctan2(-y, x)) % 360)
    quarters = np.round(np.array(angles) / 90)
    tilts = np.array(angles) - 90 * quarters
    assert set(quarters % 4) == {0, 1, 2, 3}
    assert np.abs(tilts).max() < 15.2 and tilts.min() < -10 and tilts.max() > 10


def test_without_quarter_turns_only_tilts(splits):
    dataset = TrainingSet(splits, seed=0, quarter_turns=False)
    for number in range(20):
        x, y = centroid(augment(blob(18, 0).expand(3, -1, -1), blob(18, 0), generator(number), False)[1])
        assert abs(np.degrees(np.arctan2(-y, x))) < 15.2
    image, target = TrainingSet(splits, seed=0, augmented=False)[1, 0]
    torch.testing.assert_close(dataset[1, 0], augment(image, target, generator((0, 1, 0)), False))


def test_values_stay_in_range():
    for number in range(20):
        torch.manual_seed(number)
        image, target = augment(torch.rand(3, 16, 16).round(), torch.rand(1, 16, 16).round(), generator(number), True)
        for values in (image, target):
            assert values.min() >= 0 and values.max() <= 1 + 1e-6
        assert image.dtype == target.dtype == torch.float32


def test_colours_change_half_of_the_time_and_targets_never():
    plain = torch.tensor([0.3, 0.5, 0.7])[:, None, None].expand(3, 9, 9)
    changed = 0
    for number in range(400):
        image, target = augment(plain, torch.full((1, 9, 9), 0.4), generator(number), True)
        changed += not torch.allclose(image[:, 4, 4], plain[:, 4, 4], atol=1e-3)
        assert target[0, 4, 4] == pytest.approx(0.4, abs=1e-5)
    assert 150 < changed < 250


def test_item(splits):
    dataset = TrainingSet(splits, seed=0)
    assert len(dataset) == 9
    image, target = dataset[1, 7]
    expected = augment(
        torch.from_numpy(splits[1].image(2)).permute(2, 0, 1) / 255,
        torch.from_numpy(splits[1].target(2))[None],
        generator((0, 1, 7)),
        True,
    )
    torch.testing.assert_close((image, target), expected)
    with pytest.raises(IndexError):
        dataset[1, 9]


def test_items_depend_on_seed_epoch_and_index_alone(splits):
    dataset = TrainingSet(splits, seed=0)
    torch.manual_seed(1)
    first = dataset[3, 2]
    torch.manual_seed(2)
    np.random.seed(3)
    for tensor, again in zip(first, TrainingSet(splits, seed=0)[3, 2]):
        assert torch.equal(tensor, again)
    assert not torch.equal(first[0], dataset[4, 2][0])
    assert not torch.equal(first[0], TrainingSet(splits, seed=1)[3, 2][0])


def epoch_of(splits, epoch, batch=4, workers=0, seed=0):
    """Sizes of the batches of an epoch, and all its images and targets one after another."""
    dataset = TrainingSet(splits, seed)
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
        dataset = TrainingSet(splits, seed)
        known = [dataset[epoch, index][0] for index in range(len(dataset))]
        images = epoch_of(splits, epoch, seed=seed)[1]
        orders.append([next(i for i, k in enumerate(known) if torch.equal(k, image)) for image in images])
    assert all(sorted(order) == list(range(9)) for order in orders)
    assert orders[0] != orders[1] and orders[0] != orders[2]


@pytest.mark.parametrize("processes, parts", [(1, 1), (1, 3), (2, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize("images", [1, 4, 9])
def test_shares_make_up_the_batch(images, processes, parts):
    batch = list(range(10, 10 + images))
    dealt = [Share(rank, processes, parts).deal(batch) for rank in range(processes)]
    assert all(len(share) == parts for share in dealt)
    assert sorted(index for share in dealt for part in share for index in part) == batch
    sizes = [len(part) for share in dealt for part in share]
    assert max(sizes) - min(sizes) <= 1


def test_a_share_loads_its_parts(splits):
    dataset = TrainingSet(splits, seed=0)
    parts = list(training_batches(dataset, 1, [[4, 7, 2], [5]], Share(rank=1, processes=2, parts=1), 0))
    assert torch.equal(parts[0][0], dataset[1, 7][0][None])
    assert torch.equal(parts[1][0], dataset[1, 5][0][None])  # nothing is left for it, but it must take part


def test_without_augmentation(splits):
    image, target = TrainingSet(splits, seed=0, augmented=False)[3, 6]
    assert torch.equal(image, evaluation_images(splits[1], [1])[0])
    assert torch.equal(target[0], torch.from_numpy(splits[1].target(1)))


def test_evaluation_images_are_not_changed(splits):
    images = evaluation_images(splits[0], [3, 1])
    assert images.shape == (2, 3, SIZE, SIZE) and images.dtype == torch.float32
    expected = np.stack([splits[0].image(number) for number in (3, 1)])
    np.testing.assert_array_equal((images * 255).round().permute(0, 2, 3, 1).numpy(), expected)
