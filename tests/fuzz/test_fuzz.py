"""Damaged files of every kind: no traceback, no hang, and no crash but in a decoder, which has a process of its own.

``FUZZ_INPUTS`` sets how many; ``make fuzz`` reads thousands. An input that went wrong is kept, and named by its seed.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.fuzz.corpus import CONTAINERS, write_corpus
from tests.fuzz.damage import damaged
from tests.fuzz.readers import outcome
from tsp.data.child_processes import end_with_parent, forkserver

NUM_INPUTS = int(os.environ.get("FUZZ_INPUTS", "110"))
SEED = os.environ.get("FUZZ_SEED", "1")
LIMIT_SEC = 10.0
SLOW_MACHINE = 12.0
"""Other tests run beside this one; a real hang outlasts this many limits too."""
KEPT = Path(tempfile.gettempdir()) / "tspctl-fuzz"


def _serve(connection: Connection) -> None:
    end_with_parent()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what codecs print
    while True:
        kind, path = connection.recv()
        try:
            connection.send(outcome(kind, path))
        except BaseException:
            connection.send("traceback " + traceback.format_exc())


class Child:
    """A process that reads one file after the other; a new one takes over when it dies or hangs."""

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None

    def read(self, kind: str, path: Path) -> str:
        if self._process is None or not self._process.is_alive():
            self.connection, theirs = multiprocessing.Pipe()
            context = forkserver("tests.fuzz.readers")
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
            self.connection.send(("label map", path))  # it has imported everything when it answers
            self.connection.recv()
        self.connection.send((kind, path))
        if not self.connection.poll(LIMIT_SEC * SLOW_MACHINE):
            self.end()
            return "hang"
        try:
            return str(self.connection.recv())
        except (EOFError, ConnectionError):
            self._process.join()
            return f"crash, exit code {self._process.exitcode}"

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def test_every_sound_file_is_read(corpus):
    assert {path.suffix[1:] for kind, path in corpus if kind == "video"} >= set(CONTAINERS)
    for kind, path in corpus:
        assert outcome(kind, path) == "read", path


@pytest.mark.timeout(3600)
def test_damaged_files_are_read_or_refused_and_nothing_else(corpus, tmp_path):
    children: SimpleQueue[Child] = SimpleQueue()
    num_children = 2
    for _ in range(num_children):
        children.put(Child())

    def read(number: int) -> tuple[str, str, str]:
        kind, source = corpus[number % len(corpus)]
        content = damaged(source.read_bytes(), f"{SEED}-{number}")
        path = tmp_path / f"{number}{source.suffix}"
        path.write_bytes(content)
        child = children.get()
        try:
            found = child.read(kind, path)
        finally:
            children.put(child)
        if found not in ("read", "refused"):
            KEPT.mkdir(exist_ok=True)
            (KEPT / f"{SEED}-{path.name}").write_bytes(content)
        for left in tmp_path.glob(f"{number}.*"):
            if left.is_file():
                left.unlink()
        return kind, source.name, found

    with ThreadPoolExecutor(num_children) as pool:
        results = list(pool.map(read, range(NUM_INPUTS)))
    for _ in range(num_children):
        children.get().end()
    counts = Counter((kind, found.split(maxsplit=1)[0].rstrip(",")) for kind, _, found in results)
    print(*_table(counts), sep="\n")
    wrong = [
        (number, name, found)
        for number, (kind, name, found) in enumerate(results)
        if found not in ("read", "refused") and not (kind == "video" and found.startswith("crash"))
    ]
    assert not wrong, f"{len(wrong)} inputs, kept in {KEPT}:\n" + "\n".join(
        f"{SEED}-{number} {name}: {found}" for number, name, found in wrong[:20]
    )
    assert sum(counts[kind, "refused"] for kind in dict(corpus)) > NUM_INPUTS / 10, "the damage does not bite"


def _table(counts: Counter[tuple[str, str]]) -> Iterator[str]:
    yield f"{NUM_INPUTS} inputs, seed {SEED}"
    for (kind, found), number in sorted(counts.items()):
        yield f"{kind:14} {found:10} {number}"
