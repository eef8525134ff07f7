"""Fixtures for every test folder."""

import contextlib
import fcntl
import gc
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path

import execnet
import pytest
from hypothesis import HealthCheck, settings

from tests import fork_server
from tests.s3_servers import NAMES, S3Server, start_server
from tsp.store.scratch import temporary_folder

# An example that takes long says something of the machine, not of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

MARK = "TSP_TEST_SESSION"
"""Variable that every process of a test session inherits; tspctl refuses unknown ones that begin with TSPCTL_."""
OUR_TEMPORARY = "TSP_TEST_TEMPORARY"
LEFT_AFTER_SEC = 120.0


def pytest_configure(config: pytest.Config) -> None:
    """What every process of the tests inherits."""
    gc.disable()  # until everything is imported and collected, none of which is ever garbage
    if "PYTEST_XDIST_WORKER" not in os.environ and "e2e" not in config.getoption("markexpr").removeprefix("not e2e"):
        _use_temporary_files_of_our_own()
        # Helm and its like run for a tenth of a second, a third of which their garbage collector and threads take. Not
        # for a cluster's API server, which needs more and would do nothing but collect.
        os.environ |= {"GOGC": "off", "GOMEMLIMIT": "256MiB", "GOMAXPROCS": "1", **os.environ}
    # A mark, so that those left behind can be told from other people's.
    os.environ.setdefault(MARK, f"{os.getpid()}-{time.time_ns()}")
    # One thread each: they run side by side, and OpenMP's threads spin while they wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Ranks on this machine choose their threads themselves; these at least sleep while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A server is started once, and serves all tests: what one test's code preloads, if it decided, the processes of the
    # others would import one by one, torch at two seconds each.
    forkserver.set_forkserver_preload(["tests.forked"])
    forkserver.set_forkserver_preload = lambda modules: None
    # An ear for the signals that a shell has everything ignore that it starts in the background, and nohup.
    for number, heard in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, heard)
    _share_fork_server(config)


def _share_fork_server(config: pytest.Config) -> None:
    """One for all workers of a run of all tests; where only some run, a worker that needs one starts its own."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        if config.getoption("numprocesses", None) and config.args_source == config.ArgsSource.TESTPATHS:
            with _output_to_nowhere():  # what its children print belongs to tests, not to the progress of the session
                address = fork_server.our_server()
            if address is not None:
                os.environ[fork_server.ADDRESS] = address
    elif fork_server.ADDRESS in os.environ:
        fork_server.use_server(os.environ[fork_server.ADDRESS])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: Sequence[execnet.XSpec]) -> None:
    """Workers are forked from the shared server, where there is one."""
    if fork_server.ADDRESS in os.environ:
        for spec in specs:
            spec.python = shlex.join([sys.executable, "-c", fork_server.FORKS_WORKER])


@contextlib.contextmanager
def _output_to_nowhere() -> Iterator[None]:
    """For processes that are started within it."""
    ours = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    with open(os.devnull, "wb") as nowhere:
        for descriptor in ours:
            os.dup2(nowhere.fileno(), descriptor)
    yield
    for descriptor, copy in ours.items():
        os.dup2(copy, descriptor)
        os.close(copy)


def pytest_collection_finish() -> None:
    """From here on the collector looks at what tests make, not at a million objects of imports and of 5,000 tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _use_temporary_files_of_our_own() -> None:
    """A folder for whatever is put into $TMPDIR, which the session looks through and removes at its end."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # where tmp_path stays for a look afterwards
    tempfile.tempdir = os.environ["TMPDIR"] = os.environ[OUR_TEMPORARY] = tempfile.mkdtemp(prefix="tests-")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session that leaves processes or files behind fails and names them; looked at where pytest was started."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    if Path("/proc").is_dir():
        _refuse_processes_left_behind(session)
    temporary = Path(os.environ.get(OUR_TEMPORARY, "/nonexistent"))
    if temporary.is_dir():
        with temporary_folder():
            pass  # removes what killed processes left
        if left := sorted(temporary.glob("tspctl-[!0-9]*")) + sorted(temporary.glob("tspctl-[0-9]*/[!.]*")):
            print("\nthese tests left files behind:", *left, sep="\n  ", file=sys.stderr)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        util._run_finalizers()  # of folders in it, which would miss them at the exit
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_processes_left_behind(session: pytest.Session) -> None:
    # What a failed test was doing goes on until its frames are gone: the server would wait for its processes.
    sys.last_value = sys.last_traceback = None
    gc.collect()
    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, dealt to the workers in turn: one that begins last would leave the other workers idle.

    pytest-xdist's worksteal gives each worker one run of consecutive tests, and steals from the ends of these.
    """
    num_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = sorted((item for item in items if item.get_closest_marker("slow")), key=_seconds, reverse=True)
    if num_workers == 1 or not slow:
        return
    quick = [item for item in items if not item.get_closest_marker("slow")]
    shares = [slow[number::num_workers] for number in range(num_workers)]
    ordered: list[pytest.Item] = []
    for number, share in enumerate(shares):
        # As the scheduler cuts: what is left, divided by the workers that have got nothing yet.
        size = (len(items) - len(ordered)) // (num_workers - number)
        ordered += share + quick[: size - len(share)]
        del quick[: size - len(share)]
    items[:] = ordered


def _seconds(item: pytest.Item) -> float:
    """The duration that the mark gives, by which slow tests are ordered."""
    (mark,) = list(item.iter_markers("slow"))[:1]
    return float(mark.kwargs.get("seconds", 15))


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """``make_once(name, make)``: the folder of that name, made by one of the workers and only read from then on.

    ``make(folder)`` fills an empty folder; whoever comes meanwhile waits for it to be whole.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = base / name, base / f"{name}.whole"
        with open(base / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                whole.touch()
        return folder

    return get


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Both programs set up the loggers for their process; put them back for the next test of this one."""
    loggers = [logging.getLogger(name) for name in (None, "cli", "k8s", "tsp")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        if logger.level != level:  # which has every logger that there is forget what it knows, 1,000 after torch
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
