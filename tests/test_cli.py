"""The command `symmetry`, as a user types it, rightly and wrongly."""

import csv
import io
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
        (
            ["a.png", "--weights", "no.safetensors", "--task", "rotation"],
            "no.safetensors: no checkpoint there; expected a",
        ),
        (["a.png", "--weights", "no.pt", "--task", "rotation"], "no.pt: no checkpoint there; expected a file"),
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
              ["score", "a.json"], ["score", "a.json", "b", "--threshold", "nan"],
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


@pytest.fixture
def look(images, weights, monkeypatch, capsys):
    """`symmetry detect` in the folder of two photographs: its exit code, and what it prints."""
    monkeypatch.chdir(images)
    Path("c.jpg").unlink()

    def look(*words):
        code = run("detect", *words, "--weights", weights, "--task", "reflection", "--threshold", 0)
        return code, *capsys.readouterr()

    return look


def files():
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_without_a_folder_for_results_they_are_printed(look):
    code, said, asides = look("a.png", "inner")
    assert (code, asides) == (0, "") and files() == ["a.png", "inner/b.jpg"]
    assert [line for line in said.splitlines() if line[0] != " "] == ["a.png  60 x 40", "inner/b.jpg  60 x 40"]
    assert said.count("  axis    score       x1") + said.count("  no axis: the best score is") == 2
    Path("bad.jpg").write_text("not an image")
    code, again, asides = look("a.png", "inner", "bad.jpg")
    assert (code, again) == (1, said) and "skipped: bad.jpg" in asides and "2 images; 1 skipped" in asides


@pytest.mark.parametrize("words", [["--json"], ["--format", "jsonl"], ["--format", "csv"]])
def test_records_for_programs(look, words):
    """The same printed and written, and nothing else in the standard output."""
    code, said, _ = look(".", *words)
    again, shown, asides = look(".", *words, "--out", "found", "--no-pictures")
    (name,) = set(files()) - {"a.png", "inner/b.jpg"}
    assert (code, again) == (0, 0) and said == shown == Path(name).read_text()
    assert name == f"found/detections.{words[-1].removeprefix('--json') or 'jsonl'}"
    assert f"2 images -> {name}; 0 skipped" in asides
    if "csv" in words:
        rows = list(csv.DictReader(io.StringIO(said)))
        assert {row["image"] for row in rows} == {"a.png", "inner/b.jpg"} and said.startswith("image,task,kind,x1,")
    else:
        assert [json.loads(line)["image"] for line in said.splitlines()] == ["a.png", "inner/b.jpg"]


def test_a_folder_for_results_holds_them_in_one_form(look):
    """And those of the other form are known, too, when the folder is looked at again."""
    look(".", "--format", "csv", "--out", ".")
    assert "reflection/overlays/inner/b.jpg" in files() and "detections.csv" in files()
    _, said, asides = look(".", "--json")
    assert len(said.splitlines()) == 2 and "left out: 4 files of earlier runs" in asides


def test_predictions_for_labelme(look):
    assert look(".", "--labelme")[0] == 0
    assert files() == ["a.json", "a.png", "inner/b.jpg", "inner/b.json"]
    Path("a.json").write_text("corrected")
    Path("inner/b.json").unlink()
    code, said, asides = look(".", "--labelme")
    assert code == 1 and "skipped: a.json: there already, perhaps drawn or corrected by hand" in asides
    assert "a.png  60 x 40" in said and "1 .json files" in asides
    assert Path("a.json").read_text() == "corrected" and Path("inner/b.json").exists()
    assert look(".", "--labelme", "--out", "found", "--no-pictures")[0] == 0
    content = json.loads(Path("found/labelme/inner/b.json").read_text())
    assert content["imagePath"] == "../../../inner/b.jpg" and (content["imageWidth"], content["imageHeight"]) == (
        60,
        40,
    )


def test_images_of_one_name_from_two_folders(look):
    Path("inner/a.png").write_bytes(Path("a.png").read_bytes())
    code, said, _ = look("a.png", "inner/a.png", "--out", "found")
    assert code == 0 and "2 images -> found/detections.jsonl; 0 skipped" in said
    assert {f"found/reflection/overlays/{name}.jpg" for name in ("a", "inner/a")} <= set(files())


def test_folders_below_are_left_out_on_request(look):
    code, said, asides = look(".", "--no-recursive", "--json")
    assert code == 0 and len(said.splitlines()) == 1 and asides == "left out: 1 folders below\n"
    assert len(look(".", "--recursive", "--json")[1].splitlines()) == 2


def test_a_bar_knows_how_many_images_there_are(look, monkeypatch):
    """Where somebody watches; else there is none."""
    assert look(".")[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "0/2 [" in look(".")[2]


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


@pytest.mark.parametrize(
    ("closed", "words", "status", "said"),
    [
        (">&-", "face.png --out out", 0, ""),
        ("<&-", "-", 1, "DataError: -: expected a list of paths in the standard input, which is closed"),
    ],
)
def test_closed_streams(tmp_path, closed, words, status, said):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "face.png")
    command = f"exec {sys.executable} -m pipeline.cli detect --task reflection --no-pictures {words} {closed}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.strip()) == (status, said)
    assert status or len((tmp_path / "out/detections.jsonl").read_text().splitlines()) == 1


def test_a_program_may_catch_what_is_printed(images, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # which has no encoding
    assert run("detect", images / "a.png", "--task", "reflection") in (0, None)
    assert "axis" in sys.stdout.getvalue()
