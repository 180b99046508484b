"""An HTTP host on the loopback interface that can fail in the ways of real hosts."""

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import tomli_w

CHUNK = 1 << 16


@dataclass
class Fault:
    """A fault in the responses for one file.

    Attributes:
        status: HTTP status of a response without the file; None sends the file.
        headers: Additional headers; a value of None removes the header.
        content: Bytes sent instead of the file; None sends the file.
        stop_after: Bytes sent before the connection is closed; None sends all.
        reset_after: Bytes sent before the connection is reset; None sends all.
        hang_after: Bytes sent before the host stops sending; None sends all.
        delay_per_chunk: Seconds to wait before each chunk.
        ranges: True when the host supports requests for a part of the file.
        length: True when the host reports the size.
        redirect: URL to redirect to; None for no redirect.
        times: Number of responses with the fault; later ones are correct.
    """

    status: int | None = None
    headers: dict = field(default_factory=dict)
    content: bytes | None = None
    stop_after: int | None = None
    reset_after: int | None = None
    hang_after: int | None = None
    delay_per_chunk: float = 0.0
    ranges: bool = True
    length: bool = True
    redirect: str | None = None
    times: int = 10**9


class Host:
    """A host that serves a folder.

    Attributes:
        folder: The folder.
        faults: Faults by the path of a file.
        asked: Path and headers of each request.
        url: Address of the host.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.faults = {}
        self.asked = []
        self.released = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with contextlib.suppress(ConnectionError, BrokenPipeError):
                    host.answer(self)
                if self.close_connection:
                    return

            def log_message(self, *arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """Ignore errors: clients that are killed reset their connections."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        """Stop serving."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def ranges(self, name):
        """Return the Range header of each request for a file, in order; None for the whole file."""
        return [headers.get("Range") for path, headers in self.asked if path == f"/{name}"]

    def answer(self, handler):
        """Respond to one request."""
        name = handler.path.lstrip("/")
        self.asked.append((handler.path, dict(handler.headers)))
        fault = self.faults.get(name, Fault())
        fault.times -= 1
        if fault.times < 0:
            fault = Fault()
        path = self.folder / name
        if fault.redirect or fault.status or (fault.content is None and not path.is_file()):
            self._nothing(handler, fault)
        else:
            self._file(handler, fault, path.read_bytes() if fault.content is None else fault.content)

    @staticmethod
    def _nothing(handler, fault):
        handler.send_response(302 if fault.redirect else fault.status or 404)
        if fault.redirect:
            handler.send_header("Location", fault.redirect)
        for key, value in fault.headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def _file(self, handler, fault, content):
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"', "Content-Type": "application/octet-stream"}
        headers |= fault.headers
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        if asked and fault.ranges and condition in (None, headers["ETag"], headers.get("Last-Modified")):
            start = int(asked[1])
        if start >= len(content) > 0:
            handler.send_response(416)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            headers.setdefault("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if fault.length:
            headers.setdefault("Content-Length", str(len(content) - start))
        else:
            headers["Connection"] = "close"
            handler.close_connection = True
        for key, value in headers.items():
            if value is not None:
                handler.send_header(key, value)
        handler.end_headers()
        self._body(handler, fault, content[start:])

    def _body(self, handler, fault, content):
        cuts = [fault.stop_after, fault.reset_after, fault.hang_after]
        stop = min((cut for cut in cuts if cut is not None), default=len(content))
        for at in range(0, min(stop, len(content)), CHUNK):
            time.sleep(fault.delay_per_chunk)
            handler.wfile.write(content[at : min(at + CHUNK, stop)])
        handler.wfile.flush()
        if stop == len(content) and not any(cut is not None for cut in cuts):
            return
        if fault.hang_after is not None:
            self.released.wait(60)
        if fault.reset_after is not None:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True


def write_manifest_of_download(path: Path, url: str) -> None:
    """Write the manifest of a target whose one file, x.npz, is downloaded from this address."""
    record = {
        "schema": 1,
        "name": "mine",
        "title": "Mine",
        "modality": "motion",
        "task": "classification",
        "input": {"kind": "series"},
        "reader": {"name": "arrays", "options": {"kind": "series"}},
        "files": [{"role": "data", "path": "x.npz"}],
        "downloads": [{"path": "x.npz", "urls": [url]}],
    }
    path.write_text(tomli_w.dumps(record))
