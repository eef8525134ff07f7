"""Where a run's results go, and how that server is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tsp.config.address import check_addresses
from tsp.config.bounds import require

CREDENTIAL_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Variables of the environment that hold a key pair, with its token if it is temporary."""
ChecksumMode = Literal["auto", "when_required", "when_supported"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Where results go, and how to reach an S3-compatible server. Credentials come from the environment."""

    uri: str
    """``s3://bucket/prefix``, ``file:///folder`` or a folder."""
    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool = True
    """Bucket in the path rather than in the host name, which all servers but some of AWS's need."""
    ca_bundle: str | None = None
    """PEM file of the authority that signed the server's certificate."""
    checksums: ChecksumMode = "auto"
    """Request checksums of the S3 client; ``auto`` sends them only where the server demands them."""

    def __post_init__(self) -> None:
        check_addresses(self)
        require(bool(self.uri), "store.uri is empty: give --store or set store in tspctl.toml")
