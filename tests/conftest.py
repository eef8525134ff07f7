"""Fixtures for every test folder."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from tests.s3_servers import NAMES, S3Server, start_server

MARK = "TSPCTL_TEST_SESSION"
"""Variable that every process of a test session inherits."""
LEFT_AFTER_SEC = 20.0


def pytest_configure() -> None:
    """Mark this session's processes, so that those it leaves behind can be told from other people's."""
    os.environ.setdefault(MARK, f"{os.getpid()}-{time.time_ns()}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session that leaves processes behind fails and names them; looked at once, where pytest was started."""
    if "PYTEST_XDIST_WORKER" in os.environ or not Path("/proc").is_dir():
        return
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    end = time.monotonic() + LEFT_AFTER_SEC
    while (left := _processes_of_session()) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        print("\nthese tests left processes behind:", *left, sep="\n  ", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _processes_of_session() -> list[str]:
    mark, found = f"{MARK}={os.environ[MARK]}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            is_ours = mark in (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended, or is somebody else's
        if is_ours and state != "Z" and int(process.name) != os.getpid():
            found.append(f"{process.name} {command[:200]}")
    return found


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
