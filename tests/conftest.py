"""Fixtures for every test folder."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.s3_servers import NAMES, S3Server, start_server

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Both programs set up the loggers for their process; put them back for the next test of this one."""
    loggers = [logging.getLogger(name) for name in (None, "cli", "k8s", "tsp")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder beside the checkout that holds golden figures, annotation tables and real footage."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared folder {SHARED} beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """Gives the S3 server of a name, started when first asked for."""
    running: dict[str, S3Server] = {}
    with contextlib.ExitStack() as stack:

        def get(name: str) -> S3Server:
            if name not in running:
                running[name] = stack.enter_context(start_server(name, tmp_path_factory.mktemp(name)))
            return running[name]

        yield get


@pytest.fixture(params=NAMES)
def s3_server(
    request: pytest.FixtureRequest, s3_servers: Callable[[str], S3Server], monkeypatch: pytest.MonkeyPatch
) -> S3Server:
    """Each of the S3 servers in turn, its key pair in the environment."""
    server = s3_servers(request.param)
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return server
