"""What stands between the page and the world: its port, its environment, its files, and whom it answers."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.errors import UserError

HOST = "127.0.0.1"
NAMES = HOST, "localhost"  # under which a browser may ask for the page
LARGEST_UPLOAD = 20 * 2**20  # bytes of a picture
LARGEST_BODY = LARGEST_UPLOAD + 2**16  # bytes of a request: a picture in its wrapping
LARGEST_FOLDER = 200 * 2**20  # bytes of all files that are kept
ALSO_IGNORED = "SPACE_ID", "SSL_CERT_FILE", "SSL_CERT_DIR"
HEARTBEAT = "/gradio_api/heartbeat/"  # a request that lasts as long as its tab is open


def check_port(port: int) -> None:
    """Raises UserError where the port cannot be used."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"port {port} cannot be used: {reason}; name another one with --port") from None


def ignore_environment() -> None:
    """Take from this process's environment what Gradio would heed, some of it when it is imported.

    Its variables open tunnels, serve further folders and change limits. A proxy cannot be asked for this machine, and
    certificates, which it loads at once, are of no use here.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_") or name in ALSO_IGNORED]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for the page's files, theirs alone who started it, and gone at the end.

    Ctrl-C, SIGTERM and SIGHUP are ends, too: all of them raise KeyboardInterrupt.
    """
    mask = os.umask(0o077)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with tempfile.TemporaryDirectory(prefix="symmetry-", ignore_cleanup_errors=True) as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder
            yield Path(folder)
    finally:
        os.environ.pop("GRADIO_TEMP_DIR", None)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.umask(mask)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Tabs:
    """The files that each open tab of the browser uses: one for each use. A file that no tab uses is removed."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], str] = {}

    def keep(self, tab: str, use: str, file: str | None) -> None:
        """From now on the tab uses this file, and no longer the one it used before."""
        former = self._files.pop((tab, use), None)
        if file is not None:
            self._files[tab, use] = file
        if former is not None and former not in list(self._files.values()):
            Path(former).unlink(missing_ok=True)

    def close(self, tab: str) -> None:
        """Forget a tab."""
        for owner, use in list(self._files):
            if owner == tab:
                self.keep(tab, use, None)


class Guard:
    """ASGI middleware: answers this page only, bounds what is sent to it, and notes when a tab is closed.

    Other names of this machine in `Host` are those of a stranger's site that points them here (DNS rebinding);
    requests of other origins are a stranger's page at work in the user's browser.
    """

    def __init__(self, app: ASGIApp, folder: Path, closed: Callable[[str], None]) -> None:
        self.app, self.folder, self.closed = app, folder, closed
        self._coming = 0  # bytes of the requests under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, headers = scope["path"], Headers(scope=scope)
        if refusal := _stranger(scope["method"], path, headers) or self._too_large(path, headers):
            status, reason = refusal
            await PlainTextResponse(reason, status)(scope, receive, send)
            return
        length = int(headers.get("content-length", 0))
        self._coming += length
        try:
            await self.app(scope, receive, send)
        finally:
            self._coming -= length
            if path.startswith(HEARTBEAT):
                self.closed(path.removeprefix(HEARTBEAT))

    def _too_large(self, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason where a request's body must be refused."""
        if "transfer-encoding" in headers:
            return 411, "the length of what is sent must be said first"
        length = int(headers.get("content-length", 0))
        if length > LARGEST_BODY:
            return 413, f"a picture may have {LARGEST_UPLOAD / 2**20:.0f} MiB"
        if length and path.rstrip("/").endswith("/upload") and self._held() + self._coming + length > LARGEST_FOLDER:
            return 413, f"the pictures of all tabs may have {LARGEST_FOLDER / 2**20:.0f} MiB: close some tabs"
        return None

    def _held(self) -> int:
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total


def _stranger(method: str, path: str, headers: Headers) -> tuple[int, str] | None:
    """Status and reason where a request is another site's."""
    host = headers.get("host", "")
    if host.rsplit(":", 1)[0].lower() not in NAMES:
        return 400, f"this page is called {' or '.join(NAMES)}"
    origin, site = headers.get("origin", f"http://{host}"), headers.get("sec-fetch-site", "none")
    followed_link = (method, path, headers.get("sec-fetch-dest")) == ("GET", "/", "document")
    if origin != f"http://{host}" or (site not in ("none", "same-origin") and not followed_link):
        return 403, "this page does not answer to other sites"
    return None
