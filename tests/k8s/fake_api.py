"""An API server in miniature: objects by path, lists in pages, and pod logs over connections that break."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any]
SECRETS = "/api/v1/namespaces/video/secrets"
QUOTAS = "/api/v1/namespaces/video/resourcequotas"
PASS, LOST = "pass", "lost"


class FakeApi:
    """``objects`` maps a path to an object, a list of items, or a function of method, query and body."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {SECRETS: []}
        self.logs: dict[str, FakeLog] = {}
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self.failures: list[int | str | None] = []
        """For the next requests: an HTTP status; None to close the connection without a word; PASS to answer as ever;
        LOST to do what is asked, and to close the connection without a word."""
        self.warnings: list[str] = []
        """Of the server about everything that is changed, as headers have them."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body are two writes: the second would wait 40 ms for the first to be acknowledged.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                api.handle(self)

            do_PATCH = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        for log in self.logs.values():
            log.ended = True
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def kubeconfig(self, namespace: str | None = "video") -> str:
        context = {"cluster": "fake", "user": "fake", **({"namespace": namespace} if namespace else {})}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": self.address}}],
                "users": [{"name": "fake", "user": {"token": "a-token"}}],
                "contexts": [
                    {"name": "fake", "context": context},
                    {"name": "other", "context": {**context, "namespace": "o"}},
                ],
                "current-context": "fake",
            }
        )

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        length = int(handler.headers.get("Content-Length") or 0)
        body: Any = handler.rfile.read(length) if length else None
        if any(kind in handler.headers.get("Content-Type", "json") for kind in ("json", "yaml")):
            # Helm 4 applies JSON as the YAML that it is.
            body = json.loads(body) if body else None
        self.requests.append((handler.command, url.path, query, dict(handler.headers)))
        if self.failures:
            status = self.failures.pop(0)
            if status == LOST:
                self._find(handler.command, url.path, query, body)
            if status in (None, LOST):
                handler.close_connection = True
                handler.connection.close()
                return None
            if isinstance(status, int):
                return self._answer(handler, status, {"kind": "Status", "message": f"failure {status}"})
        if url.path.endswith("/log"):
            return self.logs[url.path.split("/")[-2]].serve(handler, query)
        warnings = self.warnings if handler.command != "GET" else ()
        return self._answer(handler, *self._find(handler.command, url.path, query, body), warnings)

    def _find(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        if method in ("POST", "PUT") and isinstance(body, dict) and (refusal := self._other_version(path, body)):
            return 400, {"kind": "Status", "message": refusal}
        if path not in self.objects and path.endswith("selfsubjectaccessreviews"):
            return 201, {"status": {"allowed": True}}
        found = self.objects.get(path, [] if path == QUOTAS else None)
        if isinstance(found, Callable):
            return found(method, query, body)
        if method == "POST" and "dryRun" in query and (found is not None or path.endswith("/pods")):
            return 201, body
        if found is None:
            return 404, {"kind": "Status", "message": f"{path.rsplit('/')[-1]!r} not found"}
        if isinstance(found, list):
            return 200, self._page(found, query)
        if method == "PUT":
            found.update(body)
        return 200, found

    @staticmethod
    def _other_version(path: str, body: dict[str, Any]) -> str | None:
        """As the API server refuses an object that is sent to the address of another version."""
        parts, sent = path.split("/"), body.get("apiVersion")
        expected = parts[2] if parts[1] == "api" else "/".join(parts[2:4])
        if sent in (None, expected):
            return None
        return f"the API version in the data ({sent}) does not match the expected API version ({expected})"

    @staticmethod
    def _page(items: list[Any], query: dict[str, str]) -> dict[str, Any]:
        start, limit = int(query.get("continue", 0)), int(query.get("limit", len(items) or 1))
        more = {"continue": str(start + limit)} if start + limit < len(items) else {}
        return {"metadata": more, "items": items[start : start + limit]}

    @staticmethod
    def _answer(handler: BaseHTTPRequestHandler, status: int, body: Any, warnings: Sequence[str] = ()) -> None:
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        if status == 429:
            handler.send_header("Retry-After", "1")
        for text in warnings:
            handler.send_header("Warning", text)
        handler.end_headers()
        handler.wfile.write(data)


class FakeLog:
    """A container's log file; ``cuts`` are the bytes after which each connection breaks, None: it holds."""

    def __init__(
        self, lines: list[bytes] | None = None, *, cuts: list[int | None] | None = None, ended: bool = True
    ) -> None:
        self.lines = list(lines or [])
        self.cuts = list(cuts or [])
        self.ended = ended
        self.not_started = 0
        """So many requests are answered that the container waits to start."""
        self.silent: list[bool] = []
        """For each connection: send nothing and hold it."""
        self.clean_cuts = False
        """Cut connections end as if all had been sent: a proxy that was shut down in order."""
        self.queries: list[dict[str, str]] = []

    def serve(self, handler: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        self.queries.append(query)
        if self.not_started:
            self.not_started -= 1
            return FakeApi._answer(handler, 400, {"message": "container is waiting to start: ContainerCreating"})
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        left = self.cuts.pop(0) if self.cuts else None
        silent = self.silent.pop(0) if self.silent else False
        position = max(0, len(self.lines) - int(query["tailLines"])) if "tailLines" in query else 0
        while True:
            over = self.ended
            while position < len(self.lines) and not silent:
                line, position = self.lines[position], position + 1
                if line[:19] < query.get("sinceTime", "")[:19].encode():
                    continue
                if left is not None and len(line) >= left:
                    self._send(handler, line[:left])
                    if self.clean_cuts:
                        handler.wfile.write(b"0\r\n\r\n")
                        return None
                    handler.close_connection = True
                    handler.connection.close()
                    return None
                left = None if left is None else left - len(line)
                self._send(handler, line)
            if over or query.get("follow") != "true":
                handler.wfile.write(b"0\r\n\r\n")
                return None
            time.sleep(0.01)

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        if data:
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            handler.wfile.flush()
