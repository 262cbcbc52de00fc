"""Downloads from a server that misbehaves: the whole file, or an error that names the URL, and never half a file."""

import gzip
import json
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path

import fsspec
import gdown
import numpy as np
import pytest
import requests
from dvc.repo import Repo

from pipeline.data.download import transfer
from pipeline.data.download.transfer import ATTEMPTS, Edition, download
from pipeline.errors import DataError

SIZE, CUT, LITTLE = 3 * 2**20 + 7, 2**21, 100_000
DATA, OTHER = (np.random.default_rng(seed).bytes(SIZE) for seed in (0, 1))
DATE, LATER = "Wed, 01 Jan 2025 00:00:00 GMT", "Thu, 02 Jan 2025 00:00:00 GMT"
BROKEN = {"cut": CUT}
CHILD = """
import sys
from pathlib import Path
from pipeline.data.download.transfer import download
print("ready", flush=True)
download(sys.argv[1], Path(sys.argv[2]), {}, first_wait=0.01)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "downloads" / "file.zip"


def fetch(url, path, options=None):
    download(url, path, options or {}, first_wait=0.01)


def child(url, path):
    """Another process that fetches, once it is about to."""
    command = [sys.executable, "-c", CHILD, url, str(path)]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def left_behind(path, content, edition):
    """What an earlier process leaves when it is killed."""
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(content)
    note = edition if isinstance(edition, str) else json.dumps(asdict(edition))
    path.with_name(f"{path.name}.edition").write_text(note)


def assert_whole(path, content=DATA):
    same = path.read_bytes() == content  # not compared within the assertion, which would look for the difference
    assert same
    assert {file.name for file in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}


def assert_fails(url, path):
    """The message of the DataError, which names the URL."""
    with pytest.raises(DataError) as caught:
        fetch(url, path)
    assert str(caught.value).startswith(f"{url}: ")
    assert not path.exists()
    return str(caught.value)


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.parametrize("content", [DATA, b""], ids=["full", "empty"])
def test_whole_at_once_and_never_again(server, path, framing, content):
    url = server.serve(content, framing=framing)
    for _ in range(2):
        fetch(url, path)
    assert_whole(path, content)
    assert server.sent == [(0, len(content))]


def test_trickle(server, path):
    fetch(server.serve(DATA[:5000], piece=100, pause=0.001), path)
    assert_whole(path, DATA[:5000])
    assert len(server.requests) == 1


# Connections that break


IDENTITIES = [
    {},
    {"modified": DATE},
    {"tag": None, "modified": DATE},
    {"tag": 'W/"1"', "modified": DATE, "terse": True},
    {"framing": "chunks"},
]


@pytest.mark.parametrize("identity", IDENTITIES, ids=str)
def test_bytes_that_have_arrived_are_not_sent_again(server, path, identity):
    fetch(server.serve(DATA, BROKEN, {"cut": LITTLE}, **identity), path)
    assert_whole(path)
    assert server.sent == [(0, CUT), (CUT, LITTLE), (CUT + LITTLE, SIZE - CUT - LITTLE)]


@pytest.mark.parametrize("identity", [{"tag": None}, {"tag": 'W/"1"'}, {"ranges": False}], ids=str)
def test_a_server_without_ranges_or_tags_is_asked_for_the_whole(server, path, identity):
    fetch(server.serve(DATA, BROKEN, {"cut": LITTLE}, **identity), path)
    assert_whole(path)
    assert server.sent == [(0, CUT), (0, LITTLE), (0, SIZE)]


def test_a_connection_that_always_breaks_serves_while_it_brings_something(server, path):
    fetch(server.serve(DATA, cut=LITTLE), path)
    assert_whole(path)
    starts = range(0, SIZE, LITTLE)
    assert server.sent == [(start, min(LITTLE, SIZE - start)) for start in starts]
    assert len(starts) > 3 * ATTEMPTS


def test_a_connection_that_always_stalls_serves_while_it_brings_something(server, path, monkeypatch):
    monkeypatch.setattr(transfer, "PATIENCE", (20, 0.2))
    fetch(server.serve(DATA[: 3 * LITTLE], cut=LITTLE, hold=LITTLE), path)
    assert_whole(path, DATA[: 3 * LITTLE])
    assert len(server.requests) >= 3


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
def test_reset_connection(server, path, framing):
    fetch(server.serve(DATA, {"cut": CUT, "reset": True, "framing": framing}), path)
    assert_whole(path)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "requests"),
    [({"cut": 0}, ATTEMPTS), ({"cut": CUT, "ranges": False}, 2 * ATTEMPTS), ({"excess": 10}, 2 * ATTEMPTS)],
    ids=str,
)
def test_a_connection_that_brings_nothing_more_is_given_up(server, path, fault, requests):
    assert_fails(server.serve(DATA, **fault), path)
    assert ATTEMPTS <= len(server.requests) <= requests


def test_what_has_arrived_is_kept_for_the_next_run(server, path):
    url = server.serve(DATA, BROKEN, *[{"status": 503}] * 2 * ATTEMPTS)
    assert "2097152 bytes have arrived and are kept" in assert_fails(url, path)
    fetch(server.serve(DATA), path)
    assert_whole(path)
    assert server.sent[-1] == (CUT, SIZE - CUT)


def test_nobody_listens(path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert "refused" in assert_fails(f"http://127.0.0.1:{closed.getsockname()[1]}/file.zip", path)


# Files that are not the one of before


@pytest.mark.parametrize("condition", [True, False], ids=["If-Range honoured", "If-Range ignored"])
@pytest.mark.parametrize("content", [OTHER, OTHER + DATA, OTHER[: CUT + 9], OTHER[:CUT], OTHER[:LITTLE]], ids=len)
@pytest.mark.parametrize(
    ("before", "after"),
    [({"tag": '"1"'}, {"tag": '"2"'}), ({"tag": None, "modified": DATE}, {"tag": None, "modified": LATER})],
    ids=["ETag", "Last-Modified"],
)
def test_a_file_that_changed_is_fetched_anew(server, path, condition, content, before, after):
    fetch(server.serve(content, {"content": DATA} | BROKEN | before, condition=condition, **after), path)
    assert_whole(path, content)
    assert server.sent[-1] == (0, len(content))


def test_a_part_that_is_whole_but_for_the_end_mark(server, path):
    fetch(server.serve(DATA, {"framing": "chunks", "cut": SIZE}), path)
    assert_whole(path)


@pytest.mark.parametrize("fault", [{"most": LITTLE}, {"shift": 7}, {"shift": 7, "most": SIZE - CUT}], ids=str)
def test_ranges_other_than_asked_for(server, path, fault):
    fetch(server.serve(DATA, BROKEN, fault), path)
    assert_whole(path)


def test_an_archive_that_the_server_calls_encoded_is_not_decoded(server, path):
    content = gzip.compress(DATA)
    fetch(server.serve(content, BROKEN, kind="application/x-tar", encoding="gzip"), path)
    assert_whole(path, content)
    assert server.sent == [(0, CUT), (CUT, len(content) - CUT)]


@pytest.mark.parametrize("edition", ["", "{", "[]", '{"tag": 1}', Edition(None, None), Edition('"0"', SIZE)], ids=str)
def test_a_part_of_unknown_origin_is_not_used(server, path, edition):
    left_behind(path, b"x" * CUT, edition)
    fetch(server.serve(DATA), path)
    assert_whole(path)


def test_a_part_that_is_whole_needs_no_request(server, path):
    url = server.serve(DATA)
    left_behind(path, DATA, Edition('"1"', SIZE))
    fetch(url, path)
    assert_whole(path)
    assert server.requests == []


# Answers other than the file


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_asked_again(server, path, status):
    fetch(server.serve(DATA, {"status": status}), path)
    assert_whole(path)
    assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "requests"), [(500, ATTEMPTS), (401, 1), (403, 1), (404, 1), (410, 1)])
def test_a_status_that_stays(server, path, status, requests):
    assert str(status) in assert_fails(server.serve(DATA, status=status), path)
    assert len(server.requests) == requests


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "Text/HTML"])
def test_a_page_instead_of_the_file(server, path, kind):
    message = assert_fails(server.serve(b"<html>sign in</html>", kind=kind), path)
    assert "web page" in message and "download the file there and name it in params.yaml" in message
    assert len(server.requests) == 1


def test_a_link_that_expires_does_not_cost_what_has_arrived(server, path):
    page = {"content": b"<html>" * LITTLE, "kind": "text/html", "tag": None}
    url = server.serve(DATA, BROKEN, page)
    assert "web page" in assert_fails(url, path)
    fetch(url, path)
    assert_whole(path)
    assert server.sent[-1] == (CUT, SIZE - CUT)


def test_redirects_carry_cookies_and_ranges(server, path):
    target = server.serve(DATA, BROKEN, path="store/file.zip", cookie=True)
    fetch(server.serve(b"", moved=target, path="share"), path)
    assert_whole(path)
    assert [request.path for request in server.requests] == ["share", "store/file.zip"] * 2
    assert server.sent[1::2] == [(0, CUT), (CUT, SIZE - CUT)]


def test_redirects_in_a_circle(server, path):
    assert "redirects" in assert_fails(server.serve(b"", moved=server.url("file.zip")), path)


@pytest.mark.parametrize(
    ("link", "more"),
    [
        ("https://some.sharepoint.com/:u:/g/file?e=1", "&download=1"),
        ("https://1drv.ms/u/file", "?download=1"),
        ("https://1drv.ms/u/file?download=1", ""),
        ("https://example.org/sharepoint.com", ""),
    ],
)
def test_share_links_are_asked_for_the_file_itself(server, path, monkeypatch, link, more):
    served, seen, get = server.serve(DATA), [], requests.get
    monkeypatch.setattr(requests, "get", lambda url, **options: seen.append(url) or get(served, **options))
    fetch(link, path)
    assert_whole(path)
    assert seen == [link + more]


# Google Drive and other storage

DRIVE = "https://drive.google.com/file/d/1/view"


def drive(monkeypatch, *faults, size=SIZE):
    """A Google Drive that answers with each of `faults`, and then with the file."""
    left = list(faults)

    def answer(url, output, progress, **_):
        if left:
            raise left.pop(0)
        progress(0, size)
        Path(output).write_bytes(DATA)

    monkeypatch.setattr(gdown, "download", answer)
    return left


def test_drive(path, monkeypatch):
    drive(monkeypatch, gdown.exceptions.DownloadError("cut"), requests.ConnectionError("reset"))
    fetch(DRIVE, path)
    assert_whole(path)


def test_drive_that_refuses(path, monkeypatch):
    left = drive(monkeypatch, *[gdown.exceptions.FileURLRetrievalError("too many\n\taccesses")] * 2)
    message = assert_fails(DRIVE, path)
    assert "too many accesses" in message and "download the file there" in message
    assert len(left) == 1


@pytest.fixture(params=["memory", "file"])
def stored(request, tmp_path):
    """The URL of a file with DATA in a storage, and its edition."""
    url = f"memory://{tmp_path.name}/file.zip" if request.param == "memory" else f"file://{tmp_path}/stored.zip"
    system, place = fsspec.core.url_to_fs(url)
    system.pipe_file(place, DATA)
    yield url, Edition(str(system.ukey(place)), SIZE)
    system.rm(place)


def test_storage(path, stored):
    fetch(stored[0], path)
    assert_whole(path)


@pytest.mark.parametrize("same", [True, False])
def test_storage_goes_on_from_a_part_of_the_same_edition(path, stored, same):
    left_behind(path, b"x" * CUT, stored[1] if same else Edition("another", SIZE))
    fetch(stored[0], path)
    assert_whole(path, b"x" * CUT + DATA[CUT:] if same else DATA)


@pytest.mark.parametrize("url", ["memory://none/file.zip", "file:///none/file.zip", "nowhere://file.zip"])
def test_storage_without_the_file(path, url):
    assert_fails(url, path)


def test_dvc_repository(tmp_path, path):
    options = {"repo": str(tmp_path / "project")}
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "file.zip").write_bytes(DATA)
    with Repo.init(options["repo"], no_scm=True) as repo:
        repo.add(str(tmp_path / "project" / "file.zip"))
    (tmp_path / "project" / "file.zip").unlink()
    system, place = fsspec.core.url_to_fs("dvc://file.zip", **options)
    left_behind(path, b"x" * CUT, Edition(str(system.ukey(place)), SIZE))
    fetch("dvc://file.zip", path, options)
    assert_whole(path, b"x" * CUT + DATA[CUT:])


# This machine


@pytest.mark.parametrize("source", ["server", "drive"])
def test_no_room(server, path, monkeypatch, source):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(2_500_000_000))
    drive(monkeypatch, size=5_000_000_000)
    message = assert_fails(server.serve(DATA, excess=5_000_000_000) if source == "server" else DRIVE, path)
    assert "5.0 GB are still to come" in message and "2.5 GB free" in message
    assert len(server.requests) == (source == "server")


def test_room_for_the_rest_is_enough(server, path, monkeypatch):
    left_behind(path, DATA[:CUT], Edition('"1"', SIZE))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(SIZE - CUT))
    fetch(server.serve(DATA), path)
    assert_whole(path)


def test_no_folder_for_it(server, path):
    path.parent.write_text("a file in its place")
    assert_fails(server.serve(DATA), path)


def test_two_processes_fetch_once(server, path):
    url = server.serve(DATA, hold=CUT)
    children = [child(url, path) for _ in range(2)]
    assert wait_for(lambda: server.held.is_set())
    wait_for(lambda: len(server.requests) > 1, seconds=0.5)  # the time that a second download would take to begin
    server.release.set()
    assert [process.wait(60) for process in children] == [0, 0]
    assert_whole(path)
    assert server.sent == [(0, SIZE)]


def test_a_killed_process_loses_nothing(server, path):
    part = path.with_name(f"{path.name}.part")
    url = server.serve(DATA, {"hold": CUT + LITTLE})
    process = child(url, path)
    assert wait_for(lambda: part.exists() and part.stat().st_size >= CUT)
    process.kill()
    process.wait()
    have = part.stat().st_size
    assert not path.exists()
    fetch(url, path)
    assert_whole(path)
    assert server.sent[1:] == [(have, SIZE - have)]
