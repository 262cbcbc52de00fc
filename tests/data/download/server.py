"""A small HTTP server on this machine that misbehaves as it is told, and writes down what it was asked for."""

import re
import socketserver
import struct
import threading
import time
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET

COOKIE = "seen=1"


@dataclass(frozen=True)
class Answer:
    """How a request is answered."""

    content: bytes = b""
    status: int = 200
    kind: str = "application/zip"
    tag: str | None = '"1"'
    modified: str | None = None
    encoding: str | None = None
    ranges: bool = True  # whether Range is honoured
    condition: bool = True  # whether If-Range is
    shift: int = 0  # bytes that a range begins too early
    most: int | None = None  # bytes of a range at the most
    terse: bool = False  # whether the answer to a range leaves out Last-Modified, as the standard allows
    framing: str = "length"  # how the end is told: "length", "chunks", "close"
    excess: int = 0  # bytes that Content-Length announces too many
    cut: int | None = None  # bytes of the body after which the connection ends
    reset: bool = False  # whether it ends with a reset
    hold: int | None = None  # bytes of the body after which nothing comes until `Server.release`
    piece: int = 2**16  # bytes sent at a time
    pause: float = 0  # seconds between two pieces
    moved: str | None = None  # where to; sets a cookie on the way
    cookie: bool = False  # whether the cookie is asked for


@dataclass
class Request:
    """What was asked for, and which bytes of the content were sent."""

    path: str
    headers: dict[str, str]
    start: int = 0
    sent: int = 0


class Server:
    """Serves what `serve` was given, while the `with` block lasts."""

    def __enter__(self) -> "Server":
        self.requests: list[Request] = []
        self.held, self.release = threading.Event(), threading.Event()
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        self._server = _Loopback(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{path}"

    def serve(self, content: bytes, *first: dict, path: str = "file.zip", **then: object) -> str:
        """Answer at `path` with `content`: the first requests as each dict says, all others as `then` says."""
        usual = Answer(content, **then)
        self._answers[path] = [replace(usual, **changes) for changes in first] + [usual]
        return self.url(path)

    def take(self, path: str, headers: dict[str, str]) -> tuple[Answer, Request]:
        request = Request(path, headers)
        with self._lock:
            self.requests.append(request)
            answers = self._answers.get(path, [Answer(status=404)])
            return (answers.pop(0) if len(answers) > 1 else answers[0]), request

    @property
    def sent(self) -> list[tuple[int, int]]:
        """The first byte and the number of bytes of each answer, which count what was to be sent."""
        return [(request.start, request.sent) for request in self.requests]


class _Loopback(ThreadingHTTPServer):
    daemon_threads = True
    owner: Server

    def server_bind(self) -> None:  # that of HTTPServer asks for the name of this machine, which may take long
        socketserver.TCPServer.server_bind(self)
        self.server_port = self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing to say: clients are killed here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Loopback

    def do_GET(self) -> None:
        answer, request = self.server.owner.take(self.path.removeprefix("/"), dict(self.headers))
        self.close_connection = True
        if answer.moved:
            return self._head(302, {"Location": answer.moved, "Set-Cookie": f"{COOKIE}; Path=/", "Content-Length": "0"})
        if answer.cookie and self.headers.get("Cookie") != COOKIE:
            answer = replace(answer, content=b"sign in", status=403)
        first, behind = self._range(answer)
        status, body = answer.status, answer.content[first:behind]
        headers = {"Content-Type": answer.kind, "ETag": answer.tag, "Last-Modified": answer.modified}
        headers["Content-Encoding"] = answer.encoding
        if status == 200 and behind is not None:
            status = 206 if first < len(answer.content) else 416
            last = first + len(body) - 1 if status == 206 else None
            whole = len(answer.content)
            headers["Last-Modified"] = None if answer.terse else answer.modified
            headers["Content-Range"] = f"bytes {first}-{last}/{whole}" if status == 206 else f"bytes */{whole}"
        if answer.framing == "length":
            headers["Content-Length"] = str(len(body) + answer.excess)
        elif answer.framing == "chunks":
            headers["Transfer-Encoding"] = "chunked"
        if status < 300:
            request.start, request.sent = first, len(body[: answer.cut])
        self._head(status, headers)
        self._body(body, answer)

    def _range(self, answer: Answer) -> tuple[int, int | None]:
        """The first byte that is asked for, and the one behind the last; None where the whole is to be sent."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        known = self.headers.get("If-Range")
        same = not known or not known.startswith("W/") and known in (answer.tag, answer.modified)
        if not (asked and answer.ranges and (same or not answer.condition)):
            return 0, None
        first = max(int(asked[1]) - answer.shift, 0)
        return first, len(answer.content) if answer.most is None else first + answer.most

    def _head(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def _body(self, body: bytes, answer: Answer) -> None:
        sent = body[: answer.cut]
        self._pieces(sent[: answer.hold], answer)
        if answer.hold is not None:
            self.server.owner.held.set()
            self.server.owner.release.wait(60)
            self._pieces(sent[answer.hold :], answer)
        if answer.framing == "chunks" and answer.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        if answer.reset:
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _pieces(self, body: bytes, answer: Answer) -> None:
        for start in range(0, len(body), answer.piece):
            piece = body[start : start + answer.piece]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.framing == "chunks" else piece)
            time.sleep(answer.pause)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at `Server.requests`."""
