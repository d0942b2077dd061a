"""The running program's own profiles over HTTP, where `go tool pprof` and scrapers look for them.

`/debug/pprof/heap`, `/debug/pprof/allocs` and `/debug/pprof/lifetime`, as Go's net/http/pprof has
them, each with `?seconds=N` for what came within N seconds. On loopback, since it names the
program's files and functions to whoever asks.
"""

from __future__ import annotations

import os
import socket
import socketserver
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from poolwise import _core
from poolwise.errors import PoolwiseError, RecordingError, UsageError
from poolwise.profile import pprof, totals
from poolwise.profile.follow import Follower, NotRecording
from poolwise.profile.recording import Recording

PREFIX = "/debug/pprof/"
MAX_SECONDS = 3600
_KINDS = {kind.name: kind for kind in (pprof.HEAP, pprof.ALLOCS, pprof.LIFETIME)}
_TITLES = {
    "heap": "what is in use now, and what was allocated",
    "allocs": "the same, allocations first",
    "lifetime": "how long it lived: bytes over time, freed and still alive",
}


class CannotServe(PoolwiseError, OSError):
    """The address cannot be listened on."""


class Server:
    """Serves this process's profiles until `close`, or the end of a `with` block.

    host, port: where; the port that was taken, if it was asked for as 0.
    """

    def __init__(self, host: str, port: int) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(
                f"port={port}: a port is between 0 and 65535; 0 takes any that is free"
            )
        try:
            self._http = _Http(host, port)
        except OSError as error:
            raise CannotServe(
                f"cannot serve on {host} port {port} ({error.strerror}): "
                "name another port, or 0 for any that is free"
            ) from None
        self.host = host
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.run, name="poolwise-pprof", daemon=True)
        self._thread.start()
        _servers.add(self)

    @property
    def url(self) -> str:
        """Where the index is.

        >>> with Server("127.0.0.1", 0) as server:
        ...     print(server.url.replace(str(server.port), "PORT"))
        http://127.0.0.1:PORT/debug/pprof/
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{PREFIX}"

    def close(self) -> None:
        """Answer no more; requests that wait for their seconds to pass end with status 409."""
        if not self._http.closing.is_set():
            self._http.closing.set()
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a request may still have its seconds to wait

    def __init__(self, host: str, port: int) -> None:
        self.closing = threading.Event()
        self.looks = 0  # at the recording, so far
        self._follower = Follower()
        self._follower_lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Not HTTPServer's, which asks a name server for the host's name."""
        socketserver.TCPServer.server_bind(self)

    def run(self) -> None:
        """Answer until `shutdown`."""
        _core.sampler_leave_thread()
        self.serve_forever()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request, in a thread of its own. Reading a recording allocates: were that
        recorded, too, each request would have more to read than the one before."""
        _core.sampler_leave_thread()
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the program's."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Close the port and the log."""
        super().server_close()
        with self._follower_lock:
            self._follower.close()

    def profile(self, kind: pprof.Kind, seconds: int) -> bytes:
        """A profile of all so far, or of the next seconds; gzipped."""
        start = self._look(kind)
        if seconds == 0:
            return start.encode(kind, start.rows, 0)
        if self.closing.wait(seconds):
            raise NotRecording("the server was closed while the request waited")
        end = self._look(kind)
        if end.recording is not start.recording:
            raise NotRecording("another recording was started while the request waited: ask again")
        rows = totals.difference(end.rows, start.rows)
        return end.encode(kind, rows, end.time_ns - start.time_ns)

    def _look(self, kind: pprof.Kind) -> _Look:
        with self._follower_lock:
            self._follower.catch_up()
            self.looks += 1
            recording, sums = self._follower.recording, self._follower.totals
            return _Look(time.time_ns(), recording, sums.rows(kind.of), sums.period(recording))


@dataclass(frozen=True, slots=True)
class _Look:
    """What was known at a moment."""

    time_ns: int
    recording: Recording
    rows: totals.Rows
    period: int

    def encode(self, kind: pprof.Kind, rows: totals.Rows, duration_ns: int) -> bytes:
        return pprof.encode(
            self.recording,
            rows,
            kind,
            period=self.period,
            time_ns=self.time_ns,
            duration_ns=duration_ns,
        )


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    timeout = 60  # for a client that connects and says nothing

    def do_GET(self) -> None:
        """The index, or a profile."""
        url = urlsplit(self.path)
        name = url.path.removeprefix(PREFIX)
        if url.path == PREFIX:
            self._answer(200, _index(), "text/html; charset=utf-8")
        elif url.path == PREFIX.rstrip("/"):
            self.send_response(301)
            self.send_header("Location", PREFIX)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif url.path.startswith(PREFIX) and name in _KINDS:
            self._answer_profile(_KINDS[name], url.query)
        else:
            known = ", ".join(PREFIX + name for name in _KINDS)
            self._say(404, f"there is no {url.path}: ask for {known}")

    def _answer_profile(self, kind: pprof.Kind, query: str) -> None:
        try:
            body = self.server.profile(kind, _seconds(query))
        except UsageError as error:
            self._say(400, str(error))
        except NotRecording as error:
            self._say(409, str(error))
        except RecordingError as error:
            self._say(503, str(error))
        else:
            disposition = f'attachment; filename="{kind.name}.pb.gz"'
            self._answer(200, body, "application/octet-stream", disposition)

    def _say(self, status: int, sentence: str) -> None:
        self._answer(status, sentence.encode() + b"\n", "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, type_: str, disposition: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if disposition:
            self.send_header("Content-Disposition", disposition)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard error is the program's."""


def _seconds(query: str) -> int:
    """N of `seconds=N`; 0 without it."""
    given = parse_qs(query, keep_blank_values=True).get("seconds", [None])[-1]
    if given is None:
        return 0
    number = given.isascii() and given.isdigit() and len(given) <= 9
    if not number or not 1 <= int(given) <= MAX_SECONDS:
        raise UsageError(f"seconds={given[:20]}: give a whole number from 1 to {MAX_SECONDS}")
    return int(given)


def _index() -> bytes:
    items = "".join(
        f'<li><a href="{name}">{name}</a>: {title}</li>' for name, title in _TITLES.items()
    )
    return (
        "<!doctype html><title>poolwise profiles</title>"
        f"<h1>{PREFIX}</h1><ul>{items}</ul>"
        "<p>With <code>?seconds=N</code>: what comes within the next N seconds. "
        "Open one with <code>go tool pprof -http=: URL</code>.</p>\n"
    ).encode()


# A forked child has the port, but no thread that answers on it.
_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for server in _servers:
        server._http.closing = threading.Event()
        server._http.closing.set()
        server._http.socket.close()


os.register_at_fork(after_in_child=_leave_to_parent)
