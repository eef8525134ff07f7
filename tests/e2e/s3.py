"""A real S3 server beside the cluster: ``rclone serve s3`` on an address that the pods and this machine both reach."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.s3_servers import env_of

BUCKET = "runs"
START_TIMEOUT_SEC = 300


class S3Server:
    """One server with one bucket and a key pair of its own; can be stopped and started in the middle of a test."""

    def __init__(self, host: str, folder: Path) -> None:
        self.host, self.folder, self.bucket = host, folder, BUCKET
        self.access_key, self.secret_key = f"e2e{secrets.token_hex(8)}", secrets.token_hex(20)
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port = int(probe.getsockname()[1])
        self.endpoint_url = f"http://{host}:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "objects" / BUCKET).mkdir(parents=True)

    def start(self) -> None:
        """Serve, on the same port as before; returns when the port listens."""
        # the key pair goes through the environment (as CSV), where other users of the machine do not see it.
        # The directory cache stays on: all writes go through this server, and without it every request costs seconds.
        command = [
            str(Path(sys.executable).with_name("rclone")), "serve", "s3", "--addr", f"{self.host}:{self.port}",
            "--vfs-cache-mode", "off", "--config", os.devnull, str(self.folder / "objects"),
        ]  # fmt: skip
        env = {**os.environ, "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"'}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        end = time.monotonic() + START_TIMEOUT_SEC
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
                return
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"rclone did not start:\n{(self.folder / 'server.log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop serving; the objects stay."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def env(self) -> dict[str, str]:
        """Environment under which boto3 uses this server's key pair and no other."""
        return env_of(self.access_key, self.secret_key)

    def client(self, secret_key: str | None = None) -> Any:
        """A client of the tests' own, which shares nothing with the product's; ``secret_key`` may be a wrong one."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def keys(self, prefix: str = "") -> set[str]:
        """Keys in the bucket below ``prefix``, relative to it."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        """Content of an object."""
        body: bytes = self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body
