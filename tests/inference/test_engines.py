"""ONNX Runtime gives PyTorch's heat maps, needs no PyTorch, and reads weights that are stored once."""

import copy
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from safetensors import safe_open
from skimage import data

from pipeline import load
from pipeline.errors import CheckpointError, DataError, UserError
from pipeline.inference import detector as predictor
from pipeline.inference import network
from pipeline.inference.detector import SHIPPED
from pipeline.inference.network import Graph
from pipeline.model.checkpoint import load_model, save_model
from tests.project import PROJECT

TASKS = ("reflection", "rotation")
SHAPES = [(480, 640), (640, 480), (300, 300), (97, 1200), (900, 31), (1, 1), (1500, 2000)]


@pytest.fixture(scope="module", params=TASKS)
def engines(request):
    return load(request.param, device="cpu"), load(request.param, device="cpu", engine="torch")


def photograph(height, width):
    astronaut = data.astronaut()
    return np.resize(astronaut, (max(height, 512), 512, 3))[:height, np.arange(width) % 512]


@pytest.mark.parametrize("shape", SHAPES)
def test_heat_maps_are_those_of_pytorch(engines, shape):
    found, expected = (detector.heat_maps([photograph(*shape)])[0] for detector in engines)
    assert found.shape == shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert shape == (1, 1) or np.ptp(expected) > 1e-3


def test_what_is_found_and_said_is_the_same(engines):
    ours, theirs = engines
    assert isinstance(ours.network, Graph) and not isinstance(theirs.network, Graph)
    one, other = (detector.detect(data.rocket(), 0.01) for detector in engines)
    places = [np.array([*found.axes, *(centre[:3] for centre in found.centres)]) for found in (one, other)]
    assert len(places[0]) and one.score == pytest.approx(other.score, abs=1e-4)
    np.testing.assert_allclose(*places, atol=0.05)
    assert ours.info() | {"engine": ""} == theirs.info() | {"engine": ""}
    assert (ours.info()["engine"], theirs.info()["engine"]) == ("onnx", "torch")
    assert ours.info()["parameters"] > 3e6


def test_the_module_of_pytorch_is_there_for_both(engines):
    ours, theirs = (detector.model for detector in engines)
    assert ours.image_tower is not theirs.image_tower and ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(np.array_equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())
    assert engines[0].model is ours and engines[1].model is engines[1].network


def test_batches_threads_and_copies(engines, tmp_path):
    detector = engines[0]
    images = [photograph(40 + 9 * n, 200 - 20 * n) for n in range(8)]
    expected = [detector.heat_maps([image])[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(detector.detect, images * 3), expected * 3, strict=True):
            np.testing.assert_array_equal(found.heatmap, alone)
    for found, alone in zip(detector.stream(iter(images), batch=3), expected, strict=True):
        np.testing.assert_allclose(found.heatmap, alone, atol=1e-5)
    for twin in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(twin.heat_maps(images[:1])[0], expected[0])


def test_neither_pytorch_nor_pydantic_is_imported(tmp_path):
    """By the package's functions and by the command."""
    code = (
        "import sys; import numpy as np\n"
        "for name in ('torch', 'pydantic', 'scipy', 'skimage', 'escnn'): sys.modules[name] = None\n"
        "from pipeline import detect, load\n"
        "assert detect(np.eye(50)).heatmap.shape == (50, 50)\n"
        "assert load('rotation').info()['engine'] == 'onnx'\n"
        "from PIL import Image; Image.new('RGB', (60, 40)).save(sys.argv[1])\n"
        "from pipeline.cli import main; main(['detect', sys.argv[1]])\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "missing, engine, install",
    [("onnxruntime", "onnx", "onnxruntime"), ("torch", "torch", "'clipsym-pipeline[torch]'")],
)
def test_an_engine_that_is_not_installed(missing, engine, install):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from pipeline.cli import main; main(['detect', 'docs/page.jpg', '--engine', {engine!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"the package {missing} is not installed: pip install {install}" in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"weights": SHIPPED / "lite_reflection.safetensors"},
        {"precision": "bf16"},
        {"device": "cuda"},
        {"prompts": ["a"]},
    ],
)
def test_what_only_pytorch_can(change):
    with pytest.raises(UserError, match="engine onnx runs the package's weights on the CPU in fp32"):
        load("reflection", engine="onnx", **change)


def test_a_gpu_is_for_pytorch(monkeypatch):
    monkeypatch.setattr(predictor, "has_gpu", lambda: True)
    assert not isinstance(load().network, Graph)
    assert isinstance(load(device="cpu").network, Graph) and isinstance(load(engine="onnx").network, Graph)
    assert not isinstance(load(weights=SHIPPED / "lite_reflection.safetensors").network, Graph)


def test_the_driver_says_whether_there_is_a_gpu(monkeypatch):
    class Driver:
        def __init__(self, name):
            pass

        cuInit = staticmethod(lambda flags: 0)

        @staticmethod
        def cuDeviceGetCount(count):
            count._obj.value = devices
            return 0

    monkeypatch.setattr(network, "CDLL", Driver)
    devices = 1
    assert network.has_gpu()
    devices = 0
    assert not network.has_gpu()
    devices, Driver.cuInit = 1, staticmethod(lambda flags: 100)  # no device, or none that may be seen
    assert not network.has_gpu()


def test_threads_of_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert network.threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5}, raising=False)
    assert network.threads() == 2


@pytest.mark.parametrize("task", TASKS)
def test_the_graph_holds_no_weights_but_says_where_they_lie(task):
    path = SHIPPED / f"lite_{task}.safetensors"
    graph = onnx.load(path.with_suffix(".onnx"), load_external_data=False).graph
    content = path.read_bytes()
    with safe_open(path, framework="np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
    assert {tensor.name for tensor in graph.initializer} == weights.keys()
    for tensor in graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        start, length = int(place["offset"]), int(place["length"])
        assert place["location"] == path.name and list(tensor.dims) == list(weights[tensor.name].shape)
        assert content[start : start + length] == weights[tensor.name].tobytes()
    assert path.with_suffix(".onnx").stat().st_size < 0.05 * path.stat().st_size


def test_damaged_files(tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "SHIPPED", tmp_path)
    path = tmp_path / "lite_reflection.safetensors"
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        load()
    shutil.copy(SHIPPED / path.name, path)
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot load its graph"):
        load()
    shutil.copy((SHIPPED / path.name).with_suffix(".onnx"), tmp_path)
    np.testing.assert_array_equal(load().heat_maps([photograph(60, 60)])[0].shape, (60, 60))
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        load()
    model, record = load_model(SHIPPED / path.name)
    save_model(path, model.half(), record)  # with a checksum
    load_header = network.read_header(path)
    assert load_header.entries["checksum"] and load_header.task == "reflection"
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load()


def test_pictures_are_prepared_while_others_are_looked_at_and_no_more_than_a_batch_ahead(monkeypatch):
    taken, detector, shrunk = [], load(device="cpu"), predictor._shrunk
    shrinking = []

    def recorded(*of):
        shrinking.append(threading.current_thread() is threading.main_thread())
        return shrunk(*of)

    monkeypatch.setattr(predictor, "_shrunk", recorded)

    def images():
        for n in range(9):
            taken.append((n, threading.current_thread() is threading.main_thread()))
            yield photograph(40, 40)

    stream = detector.stream(images(), batch=2)
    for n, _ in zip(range(4), stream):
        assert len(taken) <= 2 * (n // 2 + 2)
    assert not any(main for _, main in taken)
    assert shrinking and not any(shrinking)
    stream.close()
    assert len(taken) < 9


def test_what_makes_no_sense_is_refused():
    for options in ({"task": "reflexion"}, {"precision": "fp8"}, {"engine": "foo"}):
        with pytest.raises(UserError, match=f"{next(iter(options))}: expected one of .*, got '"):
            load(**options)
    detector = load(device="cpu")
    with pytest.raises(UserError, match="batch: expected 1 or more, got 0"):
        list(detector.stream([photograph(40, 40)], batch=0))
    assert detector.heat_maps([]) == []


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_images_before_a_bad_one_are_looked_at(batch, tmp_path):
    seen, detector = [], load(device="cpu")
    images = [photograph(40, 40), photograph(50, 40), tmp_path / "missing.jpg", photograph(60, 40)]
    with pytest.raises(DataError, match="missing.jpg"):
        seen.extend(found.heatmap.shape for found in detector.stream(images, batch=batch))
    assert seen == [(40, 40), (50, 40)]
