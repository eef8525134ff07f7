"""Endpoints that people give: with a path, with the bucket's name, without TLS."""

from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.cli.conftest import Tspctl
from tests.cli.runs.peoples_stores import (
    ANY,
    OK,
    STORE,
    USAGE,
    WHOLE,
    check,
    client_of,
    every,
    settings_of,
)
from tests.fault_proxy import FaultProxy
from tests.s3_servers import S3Server

ENDPOINTS = {
    "/minio": "bucket 'runs' does not exist at .*leave /minio out of store.endpoint_url",
    "/runs": "leave /runs out of store.endpoint_url",
    "/runs/": "leave /runs/ out of store.endpoint_url",
}


@pytest.mark.parametrize("name", ["rclone", "moto"])
@pytest.mark.parametrize("path", ENDPOINTS)
def test_an_endpoint_with_a_path_that_the_server_takes_for_a_bucket_is_refused_by_name(
    s3_servers: Callable[[str], S3Server], local: Path, tspctl: Tspctl, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, name: str, path: str,
) -> None:  # fmt: skip
    server = settings_of(s3_servers(name), tmp_path, monkeypatch)
    monkeypatch.setenv("TSPCTL_ENDPOINT_URL", f"{server.endpoint_url}{path}")
    check(tspctl, every(STORE, ENDPOINTS[path], *ANY))
    assert tspctl("doctor").code == 1
    keys = [item["Key"] for item in client_of(server).list_objects_v2(Bucket=server.bucket)["Contents"]]
    assert not [key for key in keys if key.startswith("runs/")], "nothing was written where it does not belong"


def test_a_gateway_that_serves_s3_below_a_path_works(
    moto: S3Server, tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resign(method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        path = path.removeprefix("/storage/v1/s3")
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower().startswith(("content-", "x-amz-meta", "range"))
        }
        request = AWSRequest(method, f"{moto.endpoint_url}{path}", headers=kept, data=body)
        S3SigV4Auth(Credentials(moto.access_key, moto.secret_key), "s3", "us-east-1").add_auth(request)
        return path, {**dict(request.headers.items()), "Host": moto.endpoint_url.removeprefix("http://")}

    with FaultProxy(moto.endpoint_url, resign=resign) as proxy:
        monkeypatch.setenv("TSPCTL_ENDPOINT_URL", f"{proxy.url}/storage/v1/s3")
        check(tspctl, {**WHOLE, "delete": (OK, "deleted first")})
    assert proxy.requests
    assert all(path.startswith("/storage/v1/s3/runs") for _, path in proxy.requests)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ENDPOINT_URL", "http://127.0.0.1:1?x=1", "leave '\\?' and '#' out"),
        ("ENDPOINT_URL", "http://127.0.0.1:1/#x", "leave '\\?' and '#' out"),
        ("ENDPOINT_URL", "127.0.0.1:9000", "must start with http"),
        ("STORE", "https://minio.example.com/runs", "store.endpoint_url names the server"),
        ("STORE", "s3a://runs/x", "use s3://bucket/prefix"),
        ("STORE", "s3://runs//x", "remove empty parts"),
        ("STORE", "s3:///runs/x", "has no bucket"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_work_is_a_usage_error(
    moto: S3Server, tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"TSPCTL_{variable}", value)
    check(tspctl, every(USAGE, said, *ANY))


def test_a_store_whose_uri_names_the_server_is_told_what_names_it(
    moto: S3Server, tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPCTL_STORE", "s3://minio.example.com:9000/runs")
    check(tspctl, every(STORE, "store.endpoint_url names the server", *ANY))


def test_an_endpoint_that_names_the_bucket_too_is_refused_by_name(
    moto: S3Server, tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **named: real("127.0.0.1" if "." in str(host) else host, *more, **named),
    )
    monkeypatch.setenv("TSPCTL_ENDPOINT_URL", moto.endpoint_url.replace("127.0.0.1", "runs.example.com"))
    check(tspctl, every(STORE, r"names the bucket, too: leave 'runs\.' out of it", *ANY))
