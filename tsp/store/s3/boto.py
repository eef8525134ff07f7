"""The boto3 client of a store's settings."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tsp.config.address import check_address
from tsp.config.store import CREDENTIAL_VARIABLES, StoreConfig
from tsp.errors import ConfigError, StoreError
from tsp.store.s3.failures import refuse_foreign, short

if TYPE_CHECKING:
    from botocore.loaders import Loader
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_SEC = 10
READ_TIMEOUT_SEC = 60
"""A server that sends nothing for that long has stalled; the request is made again."""
POOL_CONNECTIONS = 32


def check_settings(config: StoreConfig) -> None:
    """Refuse settings that boto3 cannot handle, or that contain a secret."""
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        check_address(variable, os.environ.get(variable))
    for variable in CREDENTIAL_VARIABLES:
        text = os.environ.get(variable, "")
        if text != text.strip():
            raise StoreError(
                f"{variable} begins or ends with a line break or a space, which no key has: set it again, or make the "
                "Secret again that it comes from (kubectl create secret generic --from-literal)"
            )
    if config.endpoint_url is not None:
        split = urlsplit(config.endpoint_url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise ConfigError("store.endpoint_url must start with http:// or https:// and name a host")
        if split.query or split.fragment:
            raise ConfigError("store.endpoint_url must end with the host, its port or a path: leave '?' and '#' out")
    if config.ca_bundle is not None and not Path(config.ca_bundle).expanduser().is_file():
        raise ConfigError(f"store.ca_bundle: there is no file {config.ca_bundle}")


def _without_traceback(record: logging.LogRecord) -> bool:
    """Of a session that cannot be renewed botocore warns with a traceback; the error that follows says what to do."""
    record.exc_info = None
    return True


def make_client(config: StoreConfig) -> S3Client:
    """A boto3 client with our timeouts and the settings' endpoint, region and certificates.

    Raises: StoreError if boto3 refuses them.
    """
    import boto3

    for name in ("botocore.credentials", "botocore.tokens"):
        logging.getLogger(name).addFilter(_without_traceback)
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, PartialCredentialsError

    checksums = "when_required" if config.checksums == "auto" else config.checksums
    settings = Config(
        connect_timeout=CONNECT_TIMEOUT_SEC,
        read_timeout=READ_TIMEOUT_SEC,
        # Bucket.call retries itself: it knows which lost responses matter, and botocore's retry quota runs out.
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path" if config.path_style else "virtual"},
        signature_version="s3v4",
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        tcp_keepalive=True,
        max_pool_connections=POOL_CONNECTIONS,
    )
    try:
        session = botocore.session.Session()
        session.register_component("data_loader", _loader())
        client = boto3.session.Session(botocore_session=session).client(
            "s3",
            endpoint_url=config.endpoint_url,
            region_name=config.region,
            verify=str(Path(config.ca_bundle).expanduser()) if config.ca_bundle else None,
            config=settings,
        )
    except PartialCredentialsError as error:
        missing = error.kwargs.get("cred_var")
        raise StoreError(f"incomplete key pair: {missing} is missing; set it, or use only AWS_PROFILE") from error
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"cannot set up the S3 client ({short(error)}): check AWS_PROFILE, ~/.aws/config and store.region"
        ) from error
    client.meta.events.register("before-parse.s3", refuse_foreign)
    return client


@functools.cache
def _loader() -> Loader:
    """Reads botocore's description of S3, which takes 80 ms, once for all clients of this process."""
    from botocore.loaders import create_loader

    return create_loader()
