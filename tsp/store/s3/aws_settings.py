"""Settings that boto3 reads from AWS_* variables and profiles on this machine, for processes elsewhere that have
neither.

boto3 itself resolves them, so that every variable and every key of ``~/.aws/config`` has the same effect as for our own
requests. Credentials are never read: they stay on this machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

from tsp.config.store import StoreConfig
from tsp.store.s3.boto import make_client

_DEFAULT_ENDPOINT = re.compile(r"https://s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?/?")
_CREDENTIALS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")
_SYSTEM_BUNDLES = ("/etc/ssl/", "/etc/pki/")


def with_aws_settings(config: StoreConfig) -> StoreConfig:
    """The settings with the endpoint and region that this machine's S3 client uses, where they are not set.

    Raises: StoreError for a profile or region that boto3 refuses; ConfigError for an endpoint with a password.
    """
    if not config.uri.startswith("s3://") or (config.endpoint_url and config.region):
        return config
    meta = make_client(config).meta
    endpoint = None if _DEFAULT_ENDPOINT.fullmatch(meta.endpoint_url) else meta.endpoint_url
    return replace(config, endpoint_url=config.endpoint_url or endpoint, region=config.region or _own_region())


def _own_region() -> str | None:
    """The region that is set on this machine; None rather than boto3's default."""
    import botocore.session

    region = botocore.session.Session().get_config_variable("region")
    return str(region) if region else None


def source_of_credentials() -> str | None:
    """The variable that gives this machine its credentials, if one does."""
    return next((name for name in _CREDENTIALS if os.environ.get(name)), None)


def own_ca_bundle(config: StoreConfig) -> str | None:
    """The PEM file that this machine trusts an own server by; None for the system's."""
    path = config.ca_bundle or os.environ.get("AWS_CA_BUNDLE") or None
    return None if path is None or path.startswith(_SYSTEM_BUNDLES) else path
