"""A run in the bucket of a server that checks rights."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.runs.peoples_stores import settings_of
from tests.s3_servers import S3Server


@pytest.fixture
def moto(
    s3_servers: Callable[[str], S3Server], local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> S3Server:
    """moto's server with a run in it, as the settings have it."""
    return settings_of(s3_servers("moto"), tmp_path, monkeypatch)
