"""The API server's side of ``exec``: a websocket whose frames begin with the number of a stream."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Client:
    """The other end of the websocket, as a command in a pod sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self._file = connection, connection.makefile("rb")
        self.size: dict[str, int] = {}

    def accept(self, protocol: str) -> None:
        """Answer the handshake."""
        lines = iter(lambda: self._file.readline().strip().decode(), "")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
        accepted = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + _KEY).encode()).digest()).decode()
        self.connection.sendall(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accepted}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
        )

    def send(self, channel: int, data: bytes) -> None:
        """A frame of a stream."""
        payload = bytes([channel]) + data
        length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack(">H", len(payload))
        self.connection.sendall(b"\x82" + length + payload)

    def stdin(self) -> Iterator[bytes]:
        """What comes until its end; nothing where the terminal has got another size."""
        while True:
            channel, data = self._frame(self._file)
            if channel == CLOSE:
                return
            if channel == RESIZE:
                self.size = json.loads(data)
            yield data if channel == STDIN else b""

    @staticmethod
    def _frame(file: BinaryIO) -> tuple[int, bytes]:
        _, length = file.read(2)
        length &= 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", file.read(2))
        mask, masked = file.read(4), file.read(length)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
        return data[0], data[1:]

    def end(self, code: int) -> None:
        """As the kubelet reports how a command ended."""
        failed = {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
        self.send(ERROR, json.dumps(failed if code else {"status": "Success"}).encode())
        self.close()

    def close(self) -> None:
        """Close the websocket."""
        self.connection.sendall(b"\x88\x02\x03\xe8")


@contextmanager
def serving(command: Callable[[Client], None], *, protocol: str = "v5.channel.k8s.io") -> Iterator[str]:
    """A server that runs ``command`` for one connection. Yields: its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                client = Client(connection)
                client.accept(protocol)
                command(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(timeout=10)
