"""The command `symmetry`, as a user types it, rightly and wrongly."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from stages.command import run_stage


@pytest.fixture
def images(tmp_path):
    """A folder of two photographs, one in a folder of its own, and a file that is none."""
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    for path in (folder / "a.png", folder / "inner" / "b.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    (folder / "c.jpg").write_bytes(b"not an image")
    return folder


def run(*words):
    """The exit code, or the message, that the command ends with."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


def lines(folder):
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text().splitlines()]


def test_folder_with_a_bad_file(images, weights, tmp_path, capsys):
    out = tmp_path / "out"
    code = run("detect", images, "--out", out, "--weights", weights, "--task", "reflection", "--threshold", 0)
    assert code == 1
    captured = capsys.readouterr()
    assert "2 images -> " in captured.out and "1 skipped" in captured.out
    assert "c.jpg: cannot be decoded as an image" in captured.err
    found = lines(out)
    assert [Path(line["image"]).name for line in found] == ["a.png", "b.jpg"]
    assert found[0]["reflection"]["width"] == 60 and found[0]["reflection"]["threshold"] == 0
    for name in ("a", "inner/b"):
        heat_map = Image.open(out / "reflection" / "heatmaps" / f"{name}.png")
        assert heat_map.size == (60, 40) and heat_map.mode == "L"
        assert Image.open(out / "reflection" / "overlays" / f"{name}.jpg").size == (60, 40)
    assert not (out / "rotation").exists()


def test_batches_change_nothing(images, weights, tmp_path):
    (images / "c.jpg").unlink()
    words = ("detect", f"{images}/**/*", "--weights", weights, "--task", "reflection", "--no-pictures")
    assert run(*words, "--out", tmp_path / "one") == 0
    assert run(*words, "--out", tmp_path / "two", "--batch", 2) == 0
    for one, two in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert one["image"] == two["image"]
        assert one["reflection"]["score"] == pytest.approx(two["reflection"]["score"], abs=1e-4)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["detections.jsonl"]


def test_pictures_that_cannot_be_read_are_told_by_name(images, weights, tmp_path, capsys):
    (images / "c.jpg").unlink()
    (images / "phone.HEIC").write_bytes(bytes.fromhex("00000018") + b"ftypheic" + bytes(40))
    (images / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(60))
    (images / "inner" / "b.jpg").rename(images / "inner" / "b")  # known by its content
    words = ("--out", tmp_path / "out", "--weights", weights, "--task", "reflection", "--no-pictures")
    assert run("detect", images, *words) == 1
    captured = capsys.readouterr()
    assert "phone.HEIC: HEIC, which is not read; convert it to JPEG or PNG" in captured.err and "._" not in captured.err
    assert "2 images -> " in captured.out and "1 skipped" in captured.out


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere.jpg"], "nowhere.jpg: no such image, folder or files"),
        (["."], "no images in this folder"),
        (["~/nowhere.jpg"], str(Path.home() / "nowhere.jpg")),
        (["a.png", ""], "expected an image, a folder or a pattern, got an empty text"),
        (["a.png", "--weights", "a.png"], "--weights holds a model of one task"),
        (["a.png", "--weights", "a.png", "--task", "rotation"], "a.png: not a checkpoint of this project"),
        (["a.png", "--weights", "no.safetensors", "--task", "rotation"], "no.safetensors: no checkpoint there"),
    ],
)
def test_messages(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words != ["."]:
        (tmp_path / "x").mkdir()
        for name in ("a.png", "x/a.png"):
            Image.new("RGB", (9, 9)).save(name)
    assert message in run("detect", *words, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "words", [[], ["look"], ["detect"], ["detect", "a.png", "--out", "o", "--threshold", "2"],
              ["detect", "a.png", "--out", "o", "--batch", "0"], ["detect", "a.png", "--out", ""],
              ["detect", "a.png", "--format", "table"],
              ["info", "--weights", ""], ["export", "--format", "gguf", "--out", "o"]]
)  # fmt: skip
def test_wrong_command_lines(words, capsys):
    assert run(*words) == 2
    assert "usage: symmetry" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["detect", "a.png", "--out", "a.png"], "a.png: expected a folder for the results, found a file"),
        (["detect", "a.png", "--out", "a.png/below"], "a.png/below: Not a directory"),
        (["detect", "a.png", "--out", "/proc/nowhere"], "/proc/nowhere: No such file or directory"),
        (["detect", "a.png", "--out", "taken"], "detections.jsonl: Is a directory"),
        (["detect", "a.png", "--out", "o", "--device", "cuda:99"], "--device cuda:99: PyTorch cannot use it"),
        (["detect", "a.png", "--out", "o", "--device", "gpu"], "--device gpu: PyTorch cannot use it"),
        (["detect", "a.png", "--out", "o", "--device", "meta"], "--device meta: PyTorch cannot use it"),
        (["export", "--format", "torchscript", "--out", "taken"], "taken: expected a file to write, got a folder"),
        (["export", "--format", "onnx", "--out", "a.png/m.onnx"], "a.png: File exists"),
        (["export", "--format", "portable", "--out", "/proc/nowhere/m"], "/proc/nowhere: No such file or directory"),
        (["export", "--format", "portable", "--out", "/sys/m.safetensors"], "/sys"),
    ],
)
def test_what_the_system_refuses_is_one_message(words, message, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("a.png")
    (tmp_path / "taken/detections.jsonl").mkdir(parents=True)
    said = run(*words, "--weights", weights, *(["--task", "reflection"] if words[0] == "detect" else []))
    assert message in said and "\n" not in said


def test_a_reader_that_has_ended_is_no_error():
    """As `head` has, after its lines."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pipeline.cli", "info"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE and done.stderr == ""


def test_a_stage_that_the_system_refuses_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as end:
        run_stage(lambda: (tmp_path / "missing" / "a.json").write_text("{}"))
    assert end.value.code == f"FileNotFoundError: {tmp_path / 'missing' / 'a.json'}: No such file or directory"
    with pytest.raises(SystemExit) as end:
        run_stage(lambda: os.replace(tmp_path / "missing", tmp_path / "new"))
    assert f"{tmp_path / 'missing'} -> {tmp_path / 'new'}: No such file" in end.value.code


def test_two_files_of_one_stem_keep_their_suffixes(weights, tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    assert run("detect", tmp_path, "--out", tmp_path / "out", "--weights", weights, "--task", "reflection") == 0
    assert sorted(p.name for p in (tmp_path / "out/reflection/heatmaps").iterdir()) == ["a.jpg.png", "a.png.png"]


def test_a_picture_that_is_named_twice_is_looked_at_once(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("a.png")
    words = ["a.png", "./a.png", ".", tmp_path / "a.png", f"../{tmp_path.name}/a.png"]
    assert run("detect", *words, "--out", "out", "--weights", weights, "--task", "reflection", "--no-pictures") == 0
    assert [json.loads(line)["image"] for line in Path("out/detections.jsonl").read_text().splitlines()] == ["a.png"]


def test_a_tilde_that_the_shell_left_is_the_home(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    words = "~/*.png", "--out=~/out", f"--weights=~/{os.path.relpath(weights, tmp_path)}", "--task=reflection"
    assert run("detect", *words, "--no-pictures") == 0
    assert (tmp_path / "out/detections.jsonl").is_file()


def test_version(capsys):
    assert run("--version") == 0
    number = capsys.readouterr().out.removeprefix("symmetry ").strip()
    assert f'\nversion = "{number}"\n' in (Path(__file__).parents[1] / "pyproject.toml").read_text()


def test_info(weights, capsys):
    assert run("info", "--weights", weights) == 0
    assert json.loads(capsys.readouterr().out)["backbone"] == "tiny"


def test_the_installed_command_with_the_shipped_weights(tmp_path):
    """Nothing but the image and a folder: both tasks, no network, no other library."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[20:100, 50:110] = 200
    image[40:60, 60:70] = image[40:60, 90:100] = 40  # eyes
    Image.fromarray(image).save(tmp_path / "face.png")
    command = Path(sys.executable).with_name("symmetry")
    done = subprocess.run([command, "detect", "face.png", "--out", "out"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = lines(tmp_path / "out")
    assert found["reflection"]["symmetric"]
    axis = found["reflection"]["axes"][0]
    assert abs(axis["x1"] - 79.5) < 6 and abs(axis["x2"] - 79.5) < 6
    assert found["rotation"]["task"] == "rotation"
