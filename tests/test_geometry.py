"""The letterbox: sizes by hand, pixels against a plain reference, a drawn blob that keeps its place."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry import Letterbox, resized

SHAPES = [(90, 130), (130, 90), (417, 417), (20, 31), (7, 5), (500, 333), (1, 500), (500, 1), (1, 1), (640, 100)]
sides = st.integers(1, 300)
RECORDED_SOURCES = {
    333: [0, 110, 110, 111, 221, 332],
    357: [0, 118, 118, 119, 237, 356],
    369: [0, 122, 122, 123, 245, 368],
}
RECORDED_DIGESTS = {
    417: "e7984e89e5a882bea7a8bbab345597c2cd75fa549df9a87a34c28d3c58d95f96",
    320: "62755a441829504bb612b07c0bde82185735962928bf9f748b2728f3ebfb2f8f",
    224: "5056590fcb440ec25a7969dcee8dd9058756ace4aa6bced97891fde81a86de3b",
}
checked = settings(derandomize=True, deadline=None, max_examples=50)  # the same examples each time, however slow


def inside(letterbox):
    (top, left), (height, width) = letterbox.offset, letterbox.content
    return np.s_[top : top + height, left : left + width]


def bilinear(image, shape):
    """Half-pixel centres, no anti-aliasing, not rounded."""

    def neighbours(source, target):
        place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        lower = np.floor(place).astype(int)
        return lower, np.minimum(lower + 1, source - 1), place - lower

    (top, bottom, y), (left, right, x) = (neighbours(*pair) for pair in zip(image.shape, shape, strict=False))
    y, x, image = y[:, None, None], x[None, :, None], image.astype(float)
    upper = image[top][:, left] * (1 - x) + image[top][:, right] * x
    lower = image[bottom][:, left] * (1 - x) + image[bottom][:, right] * x
    return upper * (1 - y) + lower * y


def as_opencv(image, height, width):
    """Pixel by pixel, what OpenCV 4 does to bytes on x86 (imgproc/resize.cpp); uint8 [H, W, 3] -> float [h, w, 3]."""

    def taps(source, target, index, edge):
        place = np.float32((index + 0.5) * (1 / (target / source)) - 0.5)
        first = int(np.floor(place))
        weight = int(np.rint(np.float32(place - first) * np.float32(2048)))
        if edge and not 0 <= first < source - 1:
            weight = 0
        return [min(max(n, 0), source - 1) for n in (first, first + 1)], (2048 - weight, weight)

    found = np.empty((height, width, 3), int)
    for row, column in np.ndindex(height, width):
        rows, down = taps(len(image), height, row, False)
        columns, right = taps(image.shape[1], width, column, True)
        upper, lower = (sum(int(w) * image[r, c].astype(int) for c, w in zip(columns, right)) for r in rows)
        found[row, column] = ((down[0] * (upper >> 4) >> 16) + (down[1] * (lower >> 4) >> 16) + 2) >> 2
    return found


def nearest(letterbox, native):
    """A native map in the square, each pixel taken where `sources` says."""
    return letterbox.placed(native[np.ix_(*letterbox.sources)])


def blob(shape, x, y, sigma):
    """A Gaussian bump, 1 at its centre; integer coordinates are pixel centres."""
    rows, columns = np.indices(shape)
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def centre_of(values):
    rows, columns = np.indices(values.shape)
    return np.array([(columns * values).sum(), (rows * values).sum()]) / values.sum()


@pytest.mark.parametrize(
    ("shape", "size", "content", "offset", "region"),
    [
        ((90, 130), 417, (289, 417), (64, 0), (64, 352, 0, 417)),  # 288.7 rows: 64.2 to 352.8
        ((130, 90), 417, (417, 289), (0, 64), (0, 417, 64, 352)),
        ((480, 640), 417, (313, 417), (52, 0), (52, 364, 0, 417)),  # 312.75 rows: 52.1 to 364.9
        ((300, 300), 417, (417, 417), (0, 0), (0, 417, 0, 417)),
        ((100, 200), 224, (112, 224), (56, 0), (56, 168, 0, 224)),
        ((3, 280), 224, (2, 224), (111, 0), (110, 113, 0, 224)),  # 2.4 rows: 110.8 to 113.2
        ((1, 500), 417, (1, 417), (208, 0), (208, 209, 0, 417)),  # 0.8 rows: 208.1 to 208.9
        ((500, 1), 417, (417, 1), (0, 208), (0, 417, 208, 209)),
        ((1, 5000), 417, (1, 417), (208, 0), (208, 209, 0, 417)),
        ((1, 1), 417, (417, 417), (0, 0), (0, 417, 0, 417)),
    ],
)
def test_sizes_by_hand(shape, size, content, offset, region):
    letterbox = Letterbox(*shape, size)
    assert (letterbox.content, letterbox.offset, letterbox.region) == (content, offset, region)


@checked
@given(sides, sides, st.integers(8, 80))
def test_content_and_region_lie_inside_the_square(height, width, size):
    letterbox = Letterbox(height, width, size)
    top, bottom, left, right = letterbox.region
    assert max(letterbox.content) == size and min(letterbox.content) >= 1
    for side, start, first, last in zip(letterbox.content, letterbox.offset, (top, left), (bottom, right), strict=True):
        assert 0 <= start and size - start - side in (start, start + 1)  # the odd black line comes after
        assert 0 <= first < last <= size
        assert abs(first - start) <= 1 and abs(last - start - side) <= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 97])
def test_image_is_bilinear(shape, size):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    letterbox = Letterbox(*shape, size)
    square = letterbox.image(image)
    assert square.shape == (size, size, 3) and square.dtype == np.uint8
    difference = square[inside(letterbox)] - bilinear(image, letterbox.content)
    assert -1.13 < difference.min() and difference.max() < 0.63  # OpenCV cuts off a quarter twice, then rounds


@checked
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 25), st.integers(1, 25), st.integers(0, 99))
def test_every_byte_is_that_of_opencv(height, width, tall, wide, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    if (height, width) != (2 * tall, 2 * wide):
        np.testing.assert_array_equal(resized(image, tall, wide), as_opencv(image, tall, wide))
    doubled = np.random.default_rng(seed).integers(0, 256, (2 * tall, 2 * wide, 3), np.uint8)
    means = doubled.reshape(tall, 2, wide, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(resized(doubled, tall, wide), np.floor(means + 0.5))


@checked
@given(sides, sides, st.sampled_from([32, 61]))
def test_cut_is_the_inverse_of_placed(height, width, size):
    letterbox = Letterbox(height, width, size)
    content = np.random.default_rng(size).random(letterbox.content)
    square = letterbox.placed(content)
    np.testing.assert_array_equal(letterbox.cut(square), content)
    assert square.shape == (size, size) and np.count_nonzero(square) == np.count_nonzero(content)


@checked
@given(sides, sides, st.sampled_from([32, 61]))
def test_black_bars_around_a_plain_image(height, width, size):
    letterbox = Letterbox(height, width, size)
    expected = np.zeros((size, size), np.uint8)
    expected[inside(letterbox)] = 201
    square = letterbox.image(np.full((height, width, 3), 201, np.uint8))
    np.testing.assert_array_equal(square, np.stack([expected] * 3, axis=2))
    target = nearest(letterbox, np.full((height, width), 201, np.float32))
    np.testing.assert_array_equal(target, expected)


@checked
@given(sides, sides, st.sampled_from([32, 61]))
def test_target_takes_the_pixel_that_opencv_takes(height, width, size):
    """floor(i * scale) with the rounded scale 1 / (out / in), as OpenCV computes it (imgproc/resize.cpp)."""
    letterbox = Letterbox(height, width, size)
    target = np.arange(height * width, dtype=np.float32).reshape(height, width)
    found, (rows, columns) = nearest(letterbox, target)[inside(letterbox)], letterbox.content
    assert found.dtype == np.float32 and found.shape == (rows, columns)
    for row, column in {(0, 0), (rows // 2, columns // 3), (rows // 3, columns // 2), (rows - 1, columns - 1)}:
        y, x = min(int(row * (1 / (rows / height))), height - 1), min(int(column * (1 / (columns / width))), width - 1)
        assert found[row, column] == target[y, x]


@pytest.mark.parametrize("side", [333, 357, 369])
def test_sources_where_the_exact_quotient_would_be_another(side):
    """Recorded from cv2.resize with INTER_NEAREST: rows 139 and 278 lie one before a third and two thirds."""
    for rows in (Letterbox(side, side // 2, 417).sources[0], Letterbox(side // 2, side, 417).sources[1]):
        assert rows[[0, 138, 139, 140, 278, 416]].tolist() == RECORDED_SOURCES[side]


@pytest.mark.parametrize("size", RECORDED_DIGESTS)
def test_sources_of_every_side_from_32_to_8000(size):
    """Digest of what cv2.resize takes by INTER_NEAREST (the same in OpenCV 4.8.1 and 5.0.0), the other side 2/3."""
    digest = hashlib.sha256()
    for side in range(32, 8001):
        rows, columns = Letterbox(side * 2 // 3, side, size).sources
        digest.update(rows.astype("<i2").tobytes() + columns.astype("<i2").tobytes())
        lying = Letterbox(side, side * 2 // 3, size).sources
        assert np.array_equal(lying[0], columns) and np.array_equal(lying[1], rows)
    assert digest.hexdigest() == RECORDED_DIGESTS[size]


def test_target_by_hand():
    np.testing.assert_array_equal(nearest(Letterbox(3, 3, 5), np.diag([1.0, 2, 3]))[[0, 2, 4], [0, 2, 4]], [1, 2, 3])
    assert nearest(Letterbox(1, 3, 5), np.array([[7.0, 8, 9]]))[2].tolist() == [7, 7, 8, 8, 9]  # not 7 7 8 9 9
    assert nearest(Letterbox(1, 5, 3), np.array([[5.0, 6, 7, 8, 9]]))[1].tolist() == [5, 6, 8]


@pytest.mark.parametrize("shape", [(90, 130), (260, 160), (64, 64), (40, 31)])
@pytest.mark.parametrize("size", [96, 201])
def test_a_blob_keeps_its_place(shape, size):
    letterbox, scale = Letterbox(*shape, size), size / max(shape)
    place = np.array([shape[1] * 0.6, shape[0] * 0.4])
    expected = (place + 0.5) * scale - 0.5 + letterbox.offset[::-1]
    drawn = blob(shape, *place, 4)
    picture = np.stack([np.round(255 * drawn).astype(np.uint8)] * 3, axis=2)
    np.testing.assert_allclose(centre_of(letterbox.image(picture)[..., 0].astype(float)), expected, atol=0.3)
    np.testing.assert_allclose(centre_of(nearest(letterbox, drawn)), expected, atol=0.75)
    native = letterbox.native(torch.from_numpy(blob((size, size), *expected, 4 * scale))).numpy()
    np.testing.assert_allclose(centre_of(native), place, atol=max(1, 1 / scale))


@checked
@given(sides, sides, st.sampled_from([32, 61]))
def test_native_of_a_constant(height, width, size):
    native = Letterbox(height, width, size).native(torch.full((size, size), 0.25))
    assert native.shape == (height, width)
    torch.testing.assert_close(native, torch.full((height, width), 0.25))


@pytest.mark.parametrize("shape", SHAPES)
def test_native_of_a_ramp_runs_from_the_first_to_the_last_pixel_of_the_region(shape):
    letterbox, (height, width) = Letterbox(*shape, 96), shape
    top, bottom, left, right = letterbox.region
    row, column = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    native = letterbox.native(row + 100 * column)
    rows, columns = np.linspace(top, bottom - 1, height), np.linspace(left, right - 1, width)
    np.testing.assert_allclose(native.numpy(), rows[:, None] + 100 * columns, atol=1e-2)


@checked
@given(sides, sides, st.sampled_from([32, 61]))
def test_native_by_numpy_is_that_by_pytorch(height, width, size):
    """Added to what is there; PyTorch's places are of 32 bits."""
    heat_map, letterbox = np.random.default_rng(height).random((size, size), np.float32), Letterbox(height, width, size)
    total = np.full((height, width), 2, np.float32)
    letterbox.add_native(heat_map, total)
    expected = 2 + letterbox.native(torch.from_numpy(heat_map)).numpy()
    np.testing.assert_allclose(total, expected, rtol=0, atol=1e-4)
