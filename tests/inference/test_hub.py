"""Weights on the Hugging Face hub, played by a server on this machine that speaks as it does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.errors import CheckpointError, PackageError
from pipeline.inference.hub import located

LOCATE = """
import sys, time
from pipeline.inference.hub import located
from pipeline.errors import UserError
time.sleep = lambda seconds: None  # huggingface_hub asks six times, within 23 seconds
try:
    print(located(sys.argv[1]))
except UserError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Hub(BaseHTTPRequestHandler):
    """One model, `lab/axes`, and one that is given out on request, `lab/secret`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(f"{self.command} {self.path}")
        repository, _, file = self.path.lstrip("/").partition("/resolve/main/")
        if repository == "lab/secret":
            return self.reply(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        if repository != "lab/axes":
            return self.reply(401 if repository == "lab/odd" else 404, {"X-Error-Code": "RepoNotFound"})
        commit = hashlib.sha1(b"".join(self.server.files.values())).hexdigest()
        if file not in self.server.files:
            return self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = self.server.files[file]
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        told = {"X-Repo-Commit": commit, "ETag": tag, "X-Linked-ETag": tag, "X-Linked-Size": str(len(content))}
        self.reply(200, told, content)

    do_HEAD = do_GET

    def reply(self, status, headers, content=b""):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(weights):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.files = [], {"model.safetensors": weights.read_bytes(), "old/a.safetensors": b"old"}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    server.stop = lambda: (server.shutdown(), thread.join(), server.server_close())
    yield server
    if thread.is_alive():
        server.stop()


@pytest.fixture
def ask(hub, tmp_path):
    """A process that knows this hub alone and a cache of its own."""

    def ask(*command, **environment):
        mine = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return subprocess.run(
            [sys.executable, *command], env=clean | mine | environment, capture_output=True, text=True, timeout=100
        )

    return ask


def test_a_model_is_loaded_and_kept(hub, ask):
    done = ask("-m", "pipeline.cli", "info", "--weights", "hf://lab/axes")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backbone"] == "tiny"
    assert "GET /lab/axes/resolve/main/model.safetensors" in hub.asked
    hub.stop()
    again = ask("-c", LOCATE, "hf://lab/axes")
    assert Path(again.stdout.strip()).read_bytes() == hub.files["model.safetensors"], again.stderr


def test_another_file_and_its_next_version(hub, ask):
    assert Path(ask("-c", LOCATE, "hf://lab/axes/old/a.safetensors").stdout.strip()).read_bytes() == b"old"
    hub.files["old/a.safetensors"] = b"new"
    assert Path(ask("-c", LOCATE, "hf://lab/axes/old/a.safetensors").stdout.strip()).read_bytes() == b"new"
    offline = ask("-c", LOCATE, "hf://lab/axes/old/a.safetensors", HF_HUB_OFFLINE="1")
    assert Path(offline.stdout.strip()).read_bytes() == b"new"


@pytest.mark.parametrize(
    "address, message",
    [
        ("hf://lab/none", "has no model lab/none, or a private one: then set HF_TOKEN"),
        ("hf://lab/odd", "has no model lab/odd, or a private one: then set HF_TOKEN"),
        ("hf://lab/secret", "lab/secret is given out on request only"),
        ("hf://lab/axes/other.safetensors", "lab/axes has no file other.safetensors"),
        ("hf://lab/a..b", "a..b"),
        ("hf://lab", "expected hf://OWNER/REPO or hf://OWNER/REPO/FILE"),
    ],
)
def test_what_is_not_there_is_one_message(ask, address, message):
    done = ask("-c", LOCATE, address)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"CheckpointError: {address}: ") and message in line


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_no_network_is_one_message(hub, ask, environment):
    hub.stop()
    done = ask("-c", LOCATE, "hf://lab/axes", **environment)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "is not in the cache, and http://127.0.0.1:" in line


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        PackageError, match="the package huggingface_hub is not installed: pip install huggingface_hub$"
    ):
        located("hf://lab/axes")


def test_paths_are_taken_as_they_are():
    assert located("a/b.pt") == located(Path("a/b.pt")) == Path("a/b.pt")
    with pytest.raises(CheckpointError, match="expected hf://OWNER/REPO"):
        located("hf:///axes")
