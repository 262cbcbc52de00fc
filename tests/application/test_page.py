"""The page in a browser's place: its functions, its limits, its server in a hostile environment, and what it leaves."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from pipeline.application import page, server
from pipeline.application.page import forget, found, gradio, serve, shown
from pipeline.cli import main

HOSTILE = {
    "GRADIO_SHARE": "True", "GRADIO_ALLOWED_PATHS": "/", "GRADIO_EXAMPLES_CACHE": "/", "GRADIO_ROOT_PATH": "/elsewhere",
    "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "none", "GRADIO_TEMP_DIR": "/proc/nowhere",
    "GRADIO_SSR_MODE": "true", "GRADIO_MCP_SERVER": "true", "GRADIO_WATCH_DIRS": "/", "GRADIO_NUM_WORKERS": "2",
    "SYSTEM": "spaces", "SPACE_ID": "a/b", "KAGGLE_KERNEL_RUN_TYPE": "Interactive", "SSL_CERT_FILE": "/nowhere",
    "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "socks5://127.0.0.1:9",
}  # fmt: skip


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "face.png"
    image = np.zeros((120, 160, 3), np.uint8)
    image[20:100, 50:110] = 200
    Image.fromarray(image).save(path)
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(true):
    """The server notices that a tab was closed as soon as it writes to it again."""
    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("not within 30 seconds")


class Server:
    """`symmetry serve` in a process of its own, and a browser's requests to it."""

    def __init__(self, folder):
        self.folder, port = folder, free_port()
        (folder / "gs").write_text(f"#!/bin/sh\ntouch {folder}/called\n")
        (folder / "gs").chmod(0o755)
        (folder / "temporary").mkdir()
        (folder / "temporary" / "gradio").touch()  # where Gradio wants a folder: none can be made there
        path = os.pathsep.join([str(folder), os.environ["PATH"]])
        environment = {**os.environ, **HOSTILE, "PATH": path, "TMPDIR": str(folder / "temporary")}
        words = [sys.executable, "-m", "pipeline.cli", "serve", "--no-browser", "--port", str(port)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(words, env=environment, text=True, **pipes)
        self.said = self.process.stdout.readline()  # after which it answers
        assert "for this machine only" in self.said, self.said + self.process.communicate()[0]
        self.url, self.session = f"http://127.0.0.1:{port}/", requests.Session()
        self.session.trust_env = False

    def files(self):
        return [path for path in (self.folder / "temporary").glob("*/**/*") if path.is_file()]

    def get(self, path="", **options):
        return self.session.get(self.url + path, timeout=60, **options)

    def upload(self, name, content, **options):
        return self.session.post(
            f"{self.url}gradio_api/upload", files={"files": (name, content)}, timeout=60, **options
        )

    def look(self, tab, path, task="reflection"):
        """What the page answers when a picture was dropped."""
        return self.call(tab, "look", {"path": path, "meta": {"_type": "gradio.FileData"}}, task, True)

    def call(self, tab, name, *data):
        """What a function of the page answers."""
        calls = self.get("config").json()["dependencies"]
        number = next(call["id"] for call in calls if call["api_name"] == name)
        call = {"data": data, "fn_index": number, "session_hash": tab}
        self.session.post(f"{self.url}gradio_api/queue/join", json=call, timeout=60).raise_for_status()
        with self.get("gradio_api/queue/data", params={"session_hash": tab}, stream=True) as events:
            for line in events.iter_lines():
                if b"process_completed" in line:
                    return json.loads(line.removeprefix(b"data: "))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.process.kill()
    running.process.wait()


def test_no_variable_is_heeded(running):
    assert running.said == f"{running.url.rstrip('/')}, for this machine only; Ctrl-C ends it\n"
    assert running.get().status_code == 200
    config = running.get("config").json()
    assert config["root"] == running.url.rstrip("/") and not config.get("mcp_server") and not config["space_id"]
    for path in ("/etc/hostname", __file__):
        assert running.get(f"gradio_api/file={path}").status_code == 403


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "attacker.example"}, 400),
        ({"Host": "127.0.0.1.attacker.example:80"}, 400),
        ({"Host": ""}, 400),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),  # a link that was followed
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_get_nothing(headers, status, running):
    assert running.get(headers=headers).status_code == status
    if "Sec-Fetch-Dest" not in headers and status != 200:
        before = running.files()
        assert running.upload("a.png", b"0", headers=headers).status_code == status
        assert running.files() == before


def test_a_large_upload_is_refused(running):
    before = running.files()
    assert running.upload("a.png", b"0" * (21 * 2**20)).status_code == 413
    chunked = (part for part in [b"0"])
    answer = running.session.post(f"{running.url}gradio_api/upload", data=chunked, timeout=60)
    assert answer.status_code == 411 and running.files() == before


def test_files_are_private_and_go_with_their_tab(running, picture):
    before = set(running.files())
    tab = running.get("gradio_api/heartbeat/tab", stream=True)
    first = running.upload("face.png", picture.read_bytes()).json()[0]
    answer = running.look("tab", first)
    assert answer["success"] and "axes" in answer["output"]["data"][-1]
    second = running.upload("other.png", picture.read_bytes() + b" ").json()[0]
    running.look("tab", second)
    mine = set(running.files()) - before
    assert Path(second) in mine and Path(first) not in mine and len(mine) == 2  # the picture and its overlay
    for path in mine:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in path.parents[:2]} == {0o700}
    tab.close()
    wait_until(lambda: not mine & set(running.files()))


@pytest.mark.parametrize("number, name, task", [(0, "cat.jpg", "reflection"), (2, "flower.jpg", "rotation")])
def test_an_example_is_a_picture_of_the_tab(number, name, task, running):
    before = set(running.files())
    tab = running.get("gradio_api/heartbeat/example", stream=True)
    chosen, suits = running.call("example", "example", number)["output"]["data"]
    assert Path(chosen["path"]).name == name and suits == task
    assert running.get(f"gradio_api/file={chosen['path']}").content == (page.EXAMPLES / name).read_bytes()
    threshold, verdict, _, table, _ = running.look("example", chosen["path"], task)["output"]["data"]
    assert (
        verdict.startswith("**1 ")
        and len(table["data"]) == 1
        and table["data"][0][-1 if number == 0 else 3] >= threshold
    )
    mine = set(running.files()) - before
    assert len(mine) == 2 and {stat.S_IMODE(path.stat().st_mode) for path in mine} == {0o600}
    tab.close()
    wait_until(lambda: not mine & set(running.files()))
    assert (page.EXAMPLES / name).exists() and before <= set(running.files())


def test_no_part_has_a_button_to_share(running):
    parts = running.get("config").json()["components"]
    buttons = [part["props"]["buttons"] for part in parts if part["type"] == "image"]
    assert len(buttons) == 2 and not any("share" in some for some in buttons)


def test_each_example_names_its_licence():
    files = {path.name for path in page.EXAMPLES.glob("*.jpg")}
    told = (page.EXAMPLES / "README.md").read_text()
    assert files == set(page.SEEN) and all(f"| `{name}` |" in told for name in files)
    assert sum((page.EXAMPLES / name).stat().st_size for name in files) < 80_000


def test_only_our_decoder_sees_an_upload(running):
    """A one-line EPS called .png: Pillow would start Ghostscript for it."""
    path = running.upload("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n").json()[0]
    answer = running.look("eps", path)
    assert not answer["success"] and answer["output"]["error"].startswith("a.png: ")
    assert not (running.folder / "called").exists()


def test_other_files_and_tasks_are_no_input(running, picture):
    own = running.upload("own.png", picture.read_bytes()).json()[0]
    for path, task in ((str(picture), "reflection"), (own, "../lite_reflection")):
        assert not running.look("stranger", path, task)["success"]


def test_ctrl_c_leaves_nothing(tmp_path):
    running = Server(tmp_path)
    try:
        running.upload("a.png", b"0")
        assert running.files()
        running.process.send_signal(signal.SIGINT)
        said, _ = running.process.communicate(timeout=60)
    finally:
        running.process.kill()
    assert running.process.returncode == 0 and said == "the page is closed\n"
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == ["gradio"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_folder(number):
    with pytest.raises(KeyboardInterrupt), server.private_folder() as folder:
        (folder / "a.png").write_bytes(b"0")
        os.kill(os.getpid(), number)
        time.sleep(60)
    assert not folder.exists() and "GRADIO_TEMP_DIR" not in os.environ


def test_uploads_count_in_total(tmp_path, monkeypatch):
    """What is kept, and what is coming at the same time."""
    monkeypatch.setattr(server, "LARGEST_FOLDER", 1000)
    (tmp_path / "kept.png").write_bytes(b"0" * 300)
    answers = []

    async def app(scope, receive, send):
        if scope["more"]:  # the next one comes while this one is under way
            await guard({**scope, "more": scope["more"] - 1}, receive, send)
        await send({"type": "http.response.start", "status": 200})

    async def send(message):
        answers.extend([message["status"]] if "status" in message else [])

    guard = server.Guard(app, tmp_path, lambda tab: None)
    headers = [(b"host", b"localhost"), (b"content-length", b"300")]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": headers}
    asyncio.run(guard({**scope, "more": 2}, None, send))
    assert answers == [413, 200, 200]
    asyncio.run(guard({**scope, "more": 0}, None, send))
    assert answers[3:] == [200]


def test_a_file_stays_as_long_as_a_tab_uses_it(tmp_path):
    tabs, file = server.Tabs(), tmp_path / "a.png"
    file.touch()
    for tab in ("one", "two"):
        tabs.keep(tab, "upload", str(file))
        tabs.keep(tab, "upload", str(file))
    tabs.close("one")
    assert file.exists()
    tabs.close("two")
    assert not file.exists()


def test_memory_does_not_grow_with_the_tabs(picture, tmp_path):
    with server.private_folder():
        assert not any(isinstance(block, gradio.State) for block in page.page().blocks.values())
    for n in range(5):
        path = tmp_path / f"{n}.png"
        path.write_bytes(picture.read_bytes())
        assert found(str(path), "rotation").task == "rotation"
    assert found.cache_info().currsize <= 2
    forget("any")
    assert found.cache_info().currsize == 0


def test_threshold_sifts_what_was_found(picture):
    every = found(str(picture), "reflection")
    verdict, overlay, table, text = shown(every.above(0.0), True)
    assert overlay.size == (160, 120) and len(table) == len(every.axes) > 0
    assert f"**{len(every.axes)} ax" in verdict and '"threshold": 0.0' in text
    verdict, overlay, table, _ = shown(every.above(1.0), False)
    assert "nothing found" in verdict and len(table) == 0
    assert list(table.columns) == page.HEADERS
    np.testing.assert_array_equal(np.asarray(overlay)[40:], every.image[40:])  # words may stand above


def test_launch_says_that_nothing_is_shared(monkeypatch):
    said = {}
    monkeypatch.setattr(gradio.Blocks, "launch", lambda self, **options: said.update(options))
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    serve(free_port(), False)
    assert said["share"] is False and said["allowed_paths"] == [] and said["server_name"] == "127.0.0.1"
    assert not [name for name in os.environ if name.startswith("GRADIO_")]


def test_ports_that_cannot_be_had():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99999):
            with pytest.raises(SystemExit) as end:
                main(["serve", "--no-browser", "--port", str(port)])
            assert f"port {port} cannot be used" in end.value.code


def test_nothing_is_written_beside_the_code():
    """Gradio writes a stub beside a module that derives from one of its components."""
    assert not Path(page.__file__).with_suffix(".pyi").exists()
