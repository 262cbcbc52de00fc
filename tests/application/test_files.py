"""What `symmetry detect` looks at and what it leaves: after signals, on full disks, among its results."""

import io
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.application.files import LONGEST_JPEG, lines_name, results
from pipeline.application.selection import select
from pipeline.cli import main
from pipeline.detection.axes import DetectedAxis
from pipeline.errors import DataError
from pipeline.inference import detector as predictor
from pipeline.inference.detection import Detection

LINES = lines_name("jsonl")


@pytest.fixture
def album(tmp_path):
    """A folder of four pictures, one of them in a folder of its own."""
    folder = tmp_path / "album"
    (folder / "inner").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png", "inner/d.png"):
        Image.new("RGB", (40, 30), "red").save(folder / name)
    return folder


@pytest.fixture
def detect(weights):
    """The command on some words: its exit code, or its message."""

    def detect(*words):
        with pytest.raises(SystemExit) as end:
            main(["detect", *map(str, words), "--weights", str(weights), "--task", "reflection"])
        return end.value.code

    return detect


def found(height=30, width=40):
    axis = DetectedAxis(1.0, 2.0, 3.0, 4.0, 0.5)
    zeros = np.zeros((height, width, 3), np.uint8)
    return Detection("reflection", zeros[..., 0].astype(np.float32), (axis,), (), 0.5, 0.1, zeros)


def lines(folder):
    return [json.loads(line)["image"] for line in (folder / LINES).read_text().splitlines()]


def odd(folder):
    """A path of each kind that is no image file though it is called like one, and what is said of it."""
    os.mkfifo(folder / "fifo.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.png"))
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "folder.png").symlink_to(folder.parent)
    return {
        "fifo": "a pipe",
        "socket": "a socket",
        "gone": "a broken link",
        "loop": "Too many levels",
        "folder": "links",
    }


def test_what_is_no_file_is_told_by_name_and_hangs_nothing(album, detect, tmp_path, capsys):
    kinds = odd(album)
    assert detect(album, "--out", tmp_path / "out", "--no-pictures") == 1
    said = capsys.readouterr()
    for name, kind in kinds.items():
        assert any(f"{name}.png" in line and kind in line for line in said.err.splitlines()), (name, said.err)
    assert f"4 images -> {tmp_path / 'out' / LINES}; 5 skipped" in said.out
    assert len(lines(tmp_path / "out")) == 4


@pytest.mark.parametrize("word", ["fifo.png", "socket.png", "gone.png", "/dev/null", "f[i]fo.png", "in?er", "*/"])
def test_words_that_name_no_image_are_errors(word, album, monkeypatch):
    odd(album)
    monkeypatch.chdir(album)
    with pytest.raises(DataError, match=word.strip("*").replace("[i]", "i").replace("?", ".").replace("*", "")):
        select([word])


def test_a_folder_that_cannot_be_listed_is_told(album, detect, tmp_path, monkeypatch, capsys):
    listed = os.scandir

    def refuse(path):
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert detect(album, "--out", tmp_path / "out", "--no-pictures") == 1
    assert f"{album / 'inner'}: Permission denied" in capsys.readouterr().err
    assert len(lines(tmp_path / "out")) == 3


def named(album, monkeypatch, text, *words):
    """What is chosen with a text in the standard input."""
    monkeypatch.chdir(album)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    return select([*words, "-"])


@pytest.mark.parametrize("text", [b"b.png\n\na.png\r\ninner\n", b"b.png\0a.png\0inner\0"])
def test_a_list_in_the_standard_input(album, monkeypatch, text):
    """Of files and folders, as `ls` or `find -print0` write it."""
    assert [str(path) for path in named(album, monkeypatch, text).places] == ["b.png", "a.png", "inner/d.png"]


def test_a_list_may_name_what_is_gone(album, monkeypatch):
    (album / "a[1].png").write_bytes((album / "a.png").read_bytes())
    chosen = named(album, monkeypatch, b"gone.png\na[1].png\nb.png\n", "b.png")
    assert [str(path) for path in chosen.places] == ["b.png", "a[1].png"]
    assert chosen.refused == ["gone.png: no such image, folder or files"]
    with pytest.raises(DataError, match="^no image to look at; gone.png: no such"):
        named(album, monkeypatch, b"gone.png\n")
    with pytest.raises(DataError, match="^no image to look at$"):
        named(album, monkeypatch, b"")


def test_a_name_of_any_bytes_is_written_and_printed(album, detect, tmp_path, monkeypatch, capsys):
    odd = album / os.fsdecode(b"caf\xe9.png")
    (album / "a.png").rename(odd)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(odd))))
    assert detect("-", "--out", tmp_path / "out", "--format", "csv", "--no-pictures") == 0
    assert b"caf\xe9.png,reflection," in (tmp_path / "out" / lines_name("csv")).read_bytes()
    assert "caf\\udce9.png,reflection," in capsys.readouterr().out


def test_what_a_folder_holds_besides_is_counted(album, monkeypatch):
    """Nothing is passed over in silence."""
    (album / ".git").mkdir()
    for name in (".git/a.png", ".hidden.png", "inner/.b", "inner/film.mp4", "notes.txt", "more.TXT", "README"):
        (album / name).write_bytes(b"nothing")
    chosen = select([str(album)])
    assert [path.name for path in chosen.places] == ["a.png", "b.png", "c.png", "d.png"] and not chosen.refused
    words = chosen.left_out_in_words().split("; ")
    assert words[0] == "3 hidden files and folders"
    assert sorted(words[1:]) == ["1 .mp4 files", "1 files without a suffix", "2 .txt files"]


def test_folders_in_folders_are_left_out_where_that_is_asked_for(album):
    chosen = select([str(album)], recursive=False)
    assert [path.name for path in chosen.places] == ["a.png", "b.png", "c.png"]
    assert chosen.left_out_in_words() == "1 folders below"
    (album / "inner" / "deeper").mkdir()
    (album / "inner" / "d.png").unlink()
    with pytest.raises(DataError, match="no images in this folder; 1 folders below are not looked into"):
        select([str(album / "inner")], recursive=False)


@pytest.mark.parametrize(
    "words, names",
    [
        (["a.png", "inner/d.png"], ["a", "d"]),
        (["a.png", "inner/a.png"], ["a", "inner/a"]),
        (["inner/a.png", "inner/deep/a.png"], ["a", "deep/a"]),
        (["inner", "inner/deep/../../a.png"], ["inner/a", "inner/d", "inner/deep/a", "a"]),
        (["a.png", "a.jpg", "inner/a.jpg"], ["a.png", "a.jpg", "inner/a"]),
        (["a.jpg.png", "a.jpg", "a.png"], ["a.jpg.png", "a.jpg", "a.png"]),
        (["."], [f"{name}.png" for name in ("a.jpg", "a", "b", "c", "inner/a", "inner/d", "inner/deep/a")]),
    ],
)
def test_each_image_has_a_name_of_its_own(words, names, album, monkeypatch):
    monkeypatch.chdir(album)
    Path("inner/deep").mkdir()
    for copy in ("a.jpg", "a.jpg.png", "inner/a.png", "inner/deep/a.png"):
        Path(copy).write_bytes(Path("a.png").read_bytes())
    if "inner/a.jpg" in words:
        Path("inner/a.jpg").write_bytes(Path("a.png").read_bytes())
    called = list(select(words).names().values())
    assert [name for name in called if words != ["."] or name != "a.jpg"] == names


@pytest.mark.parametrize("out", ["inner/found", "."])
@pytest.mark.parametrize("word", [".", "**/*.*", "expanded"])
def test_results_are_no_pictures(out, word, album, detect, monkeypatch, capsys):
    """Of this folder, of another one, and with the globs that a shell expands."""
    monkeypatch.chdir(album)

    def words():
        if word != "expanded":
            return [word]
        return [p for p in sorted(album.rglob("*")) if p.suffix in (".png", ".jpg")]

    assert detect(*words(), "--out", out) == 0
    first = lines(album / out)
    assert detect(*words(), "--out", out) == 0
    assert lines(album / out) == first and len(first) == 4
    assert detect(*words(), "--out", "another") == 0
    assert lines(album / "another") == first
    assert "left out: " in capsys.readouterr().err
    with pytest.raises(DataError, match="1 files of earlier runs left out"):
        select([str(next(album.rglob("overlays/*.jpg")))])


@pytest.fixture
def before_each(monkeypatch):
    """Have something done before each image is looked at, whichever are read ahead meanwhile."""
    stream = predictor.Detector.stream

    def patch(do):
        monkeypatch.setattr(predictor.Detector, "stream", lambda *args: (do(), stream(*args))[1])

    return patch


def test_a_line_means_that_its_image_is_done(album, detect, tmp_path, before_each):
    """Whenever the next image is looked at, all is written of those before: what a kill at that moment would leave."""
    out, seen = tmp_path / "out", []

    def count():
        seen.append([len(lines(out)), *(len(list(out.glob(f"reflection/{kind}/**/*.*"))) for kind in ("h*", "o*"))])

    before_each(count)
    assert detect(album, "--out", out) == 0
    assert seen == [[done] * 3 for done in range(4)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_what_is_done(number, album, detect, tmp_path, before_each, capsys):
    out = tmp_path / "out"

    def second():
        if len(lines(out)) == 1:
            os.kill(os.getpid(), number)

    before_each(second)
    assert detect(album, "--out", out) == 128 + number
    assert [name.rsplit("/")[-1] for name in lines(out)] == ["a.png", "b.png"]
    assert "2 images -> " in capsys.readouterr().out
    assert (out / "reflection/overlays/b.jpg").exists() and not (out / "reflection/overlays/c.jpg").exists()


@pytest.fixture
def small_files():
    """No file can grow beyond 1000 bytes: a disk that is full in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_whole_lines(tmp_path, small_files):
    with results(tmp_path / "out", pictures=False) as out:
        small_files()
        with pytest.raises(DataError, match=r"img\d+.png: its results cannot be written: .*too large"):
            for n in range(99):
                out.add(tmp_path / f"img{n}.png", f"img{n}", [found()])
    text = (tmp_path / "out" / LINES).read_text()
    assert text.endswith("\n") and len(lines(tmp_path / "out")) > 0


def test_a_full_disk_is_one_message(album, detect, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LINES).symlink_to("/dev/full")
    assert "a.png: its results cannot be written: [Errno 28] No space left" in detect(album, "--out", tmp_path / "out")


def test_one_run_a_folder(album, detect, tmp_path):
    assert detect(album, "--out", tmp_path / "out", "--no-pictures") == 0
    with results(tmp_path / "out", pictures=False) as out:
        out.add(tmp_path / "a.png", "a", [found()])
        assert "another run writes there" in detect(album, "--out", tmp_path / "out")
    assert lines(tmp_path / "out") == [str(tmp_path / "a.png")]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LINES]


def test_a_side_longer_than_jpeg_holds(tmp_path):
    with results(tmp_path, pictures=True) as out:
        out.add(tmp_path / "long.png", "long", [found(2, LONGEST_JPEG + 1)])
        out.add(tmp_path / "short.png", "short", [found(2, LONGEST_JPEG)])
    names = sorted(path.name for path in (tmp_path / "reflection/overlays").iterdir())
    assert names == ["long.png", "short.jpg"]
    assert Image.open(tmp_path / "reflection/overlays/long.png").size == (LONGEST_JPEG + 1, 2)
