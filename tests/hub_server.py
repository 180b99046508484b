"""A model hub on the loopback interface: what its client asks when a repository is not in its cache."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def hub_server(repositories: Mapping[str, Mapping[str, bytes]]):
    """Serve repositories, ORGANizATION/NAME to files; gives the address and the list of files that were got."""
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _answer(self, body):
            path = self.path.split("?")[0]
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            name = (api or file).group(1) if api or file else None
            if name not in repositories:
                return self._send(401, b"{}", body, {"X-Error-Code": "RepoNotFound"})
            files, commit = repositories[name], hashlib.sha1(name.encode()).hexdigest()
            if api:
                return self._send(200, self._listing(api, name, files, commit), body)
            if file.group(3) not in files:
                return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            content = files[file.group(3)]
            if body:
                got.append(f"{name}/{file.group(3)}")
            tag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
            return self._send(200, content, body, tag)

        def _listing(self, api, name, files, commit):
            if api.group(2) == "tree":
                return json.dumps(
                    [{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in files.items()]
                ).encode()
            siblings = [{"rfilename": f} for f in files]
            return json.dumps({"id": name, "modelId": name, "sha": commit, "siblings": siblings}).encode()

        def _send(self, status, content, body, headers=None):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()
