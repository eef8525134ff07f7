"""Whether the tests detect a mutant.

The tests of a mutated module run in groups and stop at the first failure, so their order decides how long a mutant
takes: the module's own test file, then the files of its package that name it, the other files of the package, and last
the files elsewhere that name it and those of its only caller. A failure counts only if the same test passes without the
mutant, since tests may also fail on a busy machine, be flaky or be broken; such a test is left out from then on. A test
that hangs fails after a while and is treated the same way; if the whole test run must be killed, the mutant counts as
not detected.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path, PurePosixPath

import pytest

from scripts.mutants.draw import Mutant
from scripts.touched_tests import mirrored_tests

PRELOADED = (
    "torch",
    "torchvision",
    "av",
    "h5py",
    "boto3",
    "kubernetes",
    "hypothesis",
    "yaml",
    "click",
    "rich",
    "jsonschema",
)
TEST_TIMEOUT_SEC = 300
TIMEOUT_SEC = 1800
_ELSEWHERE = ("tests/e2e", "tests/fuzz", "tests/simulation")
"""Too slow to ask for a mutant that nothing else notices."""
_OF_CALLERS = {"k8s/": "tests/cli/backends/cluster"}
"""Package -> tests of the only one that imports it: they run commands on a small API server, and name no module."""


def tests_of(root: Path, path: str) -> list[list[str]]:
    """The test files that may notice a change of a module, in groups, the likeliest first."""
    package = {
        str(file.relative_to(root))
        for found in mirrored_tests(PurePosixPath(path))
        for file in ([root / found] if found.endswith(".py") else (root / found).rglob("test_*.py"))
    }
    naming = {
        name
        for file in (root / "tests").rglob("test_*.py")
        if not (name := str(file.relative_to(root))).startswith(_ELSEWHERE) and _names(file.read_text(), path)
    }
    callers = {
        str(file.relative_to(root))
        for prefix, folder in _OF_CALLERS.items()
        if path.startswith(prefix)
        for file in (root / folder).glob("test_*.py")
    }
    own = {name for name in package if Path(name).name == f"test_{Path(path).stem}.py"}
    stages = (own, package & naming - own, package - naming - own, (naming | callers) - package)
    return [sorted(stage) for stage in stages if stage]


def _names(text: str, path: str) -> bool:
    """Whether a test file imports a module or gives its name as a string."""
    package, _, name = path.removesuffix(".py").replace("/", ".").rpartition(".")
    return re.search(rf"{re.escape(package)}\.{name}\b|from {re.escape(package)} import .*\b{name}\b", text) is not None


def is_noticed(mutant: Mutant, copy: Path, red: set[str]) -> bool:
    """Whether a test fails that passes without the mutant.

    Args: red, tests that fail without one; those that are found to are added, and left out from then on.
    """
    for tests in tests_of(copy, mutant.path):
        while failed := _first_failure_with(mutant, copy, tests, red):
            if failed in red:
                break  # it cannot be left out
            if first_failure(copy, [failed], set()) is None:
                return True
            print(f"fails without a mutant, too: {failed}", flush=True)
            red.add(failed)
    return False


def _first_failure_with(mutant: Mutant, copy: Path, tests: list[str], red: set[str]) -> str | None:
    path = copy / mutant.path
    original = path.read_text()
    path.write_text(mutant.code)
    try:
        return first_failure(copy, tests, red)
    finally:
        path.write_text(original)


def first_failure(copy: Path, tests: list[str], red: set[str]) -> str | None:
    """The first of these tests that fails, leaving out ``red``; None if all pass.

    A whole file, where it cannot be imported.
    """
    with tempfile.TemporaryDirectory() as folder:
        status = _wait(_fork_pytest(copy, [*tests, *(f"--deselect={name}" for name in sorted(red))], Path(folder)))
        if status is None:
            print(f"killed after {TIMEOUT_SEC} s: {' '.join(tests[:3])} ...", flush=True)
            return None
        if status in {0, 5}:  # 5: every test here is slow
            return None
        if status == 4:  # a conftest that cannot be imported
            return tests[0]
        failed = Path(folder, "cache/v/cache/lastfailed")
        if not failed.exists():
            raise RuntimeError(f"pytest {tests} ended with {status}: {Path(folder, 'output').read_text()[-900:]}")
        return str(next(iter(json.loads(failed.read_text()))))


def _fork_pytest(copy: Path, tests: list[str], folder: Path) -> int:
    """A process that has the libraries of ``PRELOADED`` loaded: loading takes longer than most tests."""
    for name in PRELOADED:
        importlib.import_module(name)
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(copy)
        os.environ.update(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1")
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        options = ["-q", "-x", "-m", "not e2e and not slow", "-o", f"cache_dir={folder / 'cache'}"]
        status = int(pytest.main([*options, f"--timeout={TEST_TIMEOUT_SEC}", "--timeout-method=signal", *tests]))
    finally:
        os._exit(status)


def _wait(pid: int) -> int | None:
    """The exit status; None if the process had to be killed. What it has started is killed in any case."""
    deadline, ended, status = time.monotonic() + TIMEOUT_SEC, 0, 0
    while not ended and time.monotonic() < deadline:
        time.sleep(0.1)
        ended, status = os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if ended:
        return os.waitstatus_to_exitcode(status)
    os.waitpid(pid, 0)
    return None
