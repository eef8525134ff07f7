"""Real S3 servers for tests: ``rclone serve s3`` and moto's server, each a process of its own that checks signatures.

Both listen on a free port of 127.0.0.1, want path style, know one key pair, and end with the ``with`` block.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsp.config.store import StoreConfig

BUCKET = "runs"
START_TIMEOUT_SEC = 300
NAMES = ("rclone", "moto")


def env_of(access_key: str, secret_key: str) -> dict[str, str]:
    """Environment variables under which boto3 uses this key pair and no other."""
    return {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass(frozen=True)
class S3Server:
    """A running server with one empty bucket."""

    name: str
    endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str = BUCKET

    def env(self) -> dict[str, str]:
        """Environment variables under which boto3 uses this server's key pair and no other."""
        return env_of(self.access_key, self.secret_key)

    def config(self, prefix: str = "", **changes: Any) -> StoreConfig:
        """Settings of a store below ``prefix`` in the bucket."""
        values = {"uri": f"s3://{self.bucket}/{prefix}", "endpoint_url": self.endpoint_url, "region": "us-east-1"}
        return StoreConfig(**{**values, **changes})


@contextlib.contextmanager
def start_server(name: str, folder: Path) -> Iterator[S3Server]:
    """Start ``rclone`` or ``moto``; files and log go to ``folder``."""
    start = {"rclone": _start_rclone, "moto": _start_moto}[name]
    with start(folder) as server:
        yield server


@contextlib.contextmanager
def start_rclone_tls(folder: Path) -> Iterator[tuple[S3Server, Path]]:
    """Start ``rclone`` with a certificate of its own making; gives the server and the PEM file to trust."""
    certificate, key = make_certificate(folder)
    with _start_rclone(folder, "--cert", str(certificate), "--key", str(key)) as server:
        yield dataclasses.replace(server, endpoint_url=server.endpoint_url.replace("http:", "https:")), certificate


@contextlib.contextmanager
def _start_rclone(folder: Path, *options: str) -> Iterator[S3Server]:
    access_key, secret_key, port = "rclonekey", "rclone-secret-0123456789", free_port()
    (folder / "objects" / BUCKET).mkdir(parents=True)
    command = [
        str(Path(sys.executable).with_name("rclone")), "serve", "s3", "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{access_key},{secret_key}", "--vfs-cache-mode", "off",
        "--config", os.devnull, *options, str(folder / "objects"),
    ]  # fmt: skip
    with _process(command, folder, port, {}):
        yield S3Server("rclone", f"http://127.0.0.1:{port}", access_key, secret_key)


@contextlib.contextmanager
def _start_moto(folder: Path) -> Iterator[S3Server]:
    port = free_port()
    endpoint_url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, folder, port, {"MOTO_DISABLE_GLOBAL_CORS": "true"}):
        access_key, secret_key = _make_moto_user(endpoint_url)
        yield S3Server("moto", endpoint_url, access_key, secret_key)


def _make_moto_user(endpoint_url: str) -> tuple[str, str]:
    """A user who may use S3, the bucket, and from then on a signature check of every request."""
    import boto3

    anybody = {"aws_access_key_id": "setup", "aws_secret_access_key": "setup", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=endpoint_url, **anybody)
    iam.create_user(UserName="tests")
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "iam:*"], "Resource": "*"}]}'
    )
    iam.put_user_policy(UserName="tests", PolicyName="s3", PolicyDocument=policy)
    pair = iam.create_access_key(UserName="tests")["AccessKey"]
    boto3.client("s3", endpoint_url=endpoint_url, **anybody).create_bucket(Bucket=BUCKET)
    reset_url, plain = f"{endpoint_url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    request = urllib.request.Request(reset_url, data=b"0", headers=plain, method="POST")
    urllib.request.urlopen(request, timeout=600).close()
    return pair["AccessKeyId"], pair["SecretAccessKey"]


def with_rights(server: S3Server, name: str, actions: str | list[str]) -> S3Server:
    """The same server (moto alone) for another user, who may do these actions and no others."""
    import boto3

    iam = boto3.client(
        "iam",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=json.dumps(policy))
    pair = iam.create_access_key(UserName=name)["AccessKey"]
    return dataclasses.replace(server, access_key=pair["AccessKeyId"], secret_key=pair["SecretAccessKey"])


@contextlib.contextmanager
def _process(command: list[str], folder: Path, port: int, env: dict[str, str]) -> Iterator[None]:
    log = folder / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env})
    try:
        _wait_for_port(process, port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_SEC
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not start:\n{log.read_text()}")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key, as PEM files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
