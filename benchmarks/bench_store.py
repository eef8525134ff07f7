"""Time of the store compared with boto3 and rclone: wall and CPU seconds, on one server, in one run, in turn.

python -m benchmarks.bench_store [--large-mib 500] [--small 2000] [--rounds 3] [--server rclone|moto]

Ours includes work that the others do not: the SHA-256 of every file, its comparison with the record, and verifying that
the server has the data that was sent. Rounds alternate; the table shows each one's fastest, and its CPU seconds (of the
client; the server's are the same for all). Programs are timed including their start, library calls without imports and
client; the start has its own row.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3

from tests.s3_servers import S3Server, start_server
from tests.stores import epoch_record
from tsp.config.recipes import load_dataset, resolve
from tsp.run.stored_run import StoredRun
from tsp.store.base import sha256_of
from tsp.store.open import open_store

RUN = "bench"
SMALL_BYTES = 20_000
PARALLEL_UPLOADS = 8
Ways = dict[str, Callable[[], object]]

_BOTO3 = """
import sys, boto3
endpoint_url, bucket, key, path = sys.argv[1:]
boto3.client("s3", endpoint_url=endpoint_url, region_name="us-east-1").download_file(bucket, key, path)
"""


@dataclass(frozen=True, order=True)
class Took:
    """Seconds of one try; the fastest is the least."""

    wall_sec: float
    cpu_sec: float

    def __str__(self) -> str:
        return f"{self.wall_sec:.2f} s ({self.cpu_sec:.2f})"


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description="What the store costs beside boto3 and rclone.")
    parser.add_argument("--large-mib", type=int, default=500)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=("rclone", "moto"), default="rclone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-store-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "server").mkdir()
        server = stack.enter_context(start_server(arguments.server, folder / "server"))
        os.environ.update(server.env())
        # Everybody's programs start as they do for users, from compiled modules.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        bench = Bench(server, folder, arguments.large_mib, arguments.small)
        print(f"| what ({arguments.server} as server) | ours | boto3 | rclone | ours / best other |")
        print("|---|---|---|---|---|")
        for what, ways in bench.cases().items():
            took = _fastest(ways, arguments.rounds, bench.clean)
            others = min(each.wall_sec for name, each in took.items() if name != "ours")
            cells = " | ".join(str(took[name]) if name in took else "-" for name in ("ours", "boto3", "rclone"))
            print(f"| {what} | {cells} | {took['ours'].wall_sec / others:.2f} |", flush=True)


def _fastest(ways: Ways, rounds: int, clean: Callable[[], None]) -> dict[str, Took]:
    took: dict[str, list[Took]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            clean()
            begin, cpu_sec = time.perf_counter(), _cpu_sec()
            way()
            took[name].append(Took(time.perf_counter() - begin, _cpu_sec() - cpu_sec))
    return {name: min(each) for name, each in took.items()}


def _cpu_sec() -> float:
    """Of this process and the programs it waited for; not of the server, which still runs."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in used)


class Bench:
    """A run of one large checkpoint and many small files, on this machine and on the server."""

    def __init__(self, server: S3Server, folder: Path, large_mib: int, num_small: int) -> None:
        self.server, self.folder, self.here = server, folder, folder / "here"
        self.store = open_store(server.config("team"))
        self.run = StoredRun(self.store, RUN)
        self.client = boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1")
        self.large = folder / "large.pth"
        self.small = folder / "small"
        self.names = [f"features/{number % 20:02d}/{number:05d}.bin" for number in range(num_small)]
        self._make(large_mib)
        self.title = f"{large_mib} MiB"

    def cases(self) -> dict[str, Ways]:
        """The things that are compared."""
        num, checkpoint = len(self.names), self._key("epoch_1.pth")
        return {
            "start of the program": {
                "ours": lambda: self._tspctl("status", RUN),
                "boto3": lambda: self._boto3(self._key("results.txt")),
                "rclone": lambda: self._rclone("copyto", f"s3:runs/{self._key('results.txt')}", self._file()),
            },
            f"upload of {self.title}": {
                "ours": lambda: self.store.upload("up/ours", self.large, sha256=self.digest),
                "boto3": lambda: self.client.upload_file(str(self.large), self.server.bucket, "team/up/boto3"),
                "rclone": lambda: self._rclone("copyto", str(self.large), "s3:runs/team/up/rclone"),
            },
            f"download of {self.title}": {
                "ours": lambda: self.run.download_epoch(1, self.here / "file", sync=False),
                "boto3": lambda: self.client.download_file(self.server.bucket, checkpoint, self._file()),
            },
            f"fetch-best of {self.title}, a program": {
                "ours": lambda: self._tspctl("fetch-best", RUN, "-d", str(self.here)),
                "boto3": lambda: self._boto3(checkpoint),
                "rclone": lambda: self._rclone("copyto", f"s3:runs/{checkpoint}", self._file()),
            },
            f"fetch --features of {num} files, a program": {
                "ours": lambda: self._tspctl("fetch", RUN, "--features", "-d", str(self.here)),
                "rclone": lambda: self._rclone("copy", f"s3:runs/{self._key('features')}", str(self.here)),
            },
            f"upload of {num} files": {
                "ours": self._upload_small,
                "rclone": lambda: self._rclone("copy", str(self.small), "s3:runs/team/up/rclone"),
            },
        }

    def clean(self) -> None:
        """Delete, here and on the server, whatever a contestant could find already done."""
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir()
        self.store.delete_all("up/")
        os.sync()

    def _make(self, large_mib: int) -> None:
        draw = random.Random(0)
        with open(self.large, "wb") as file:
            for _ in range(large_mib):
                file.write(draw.randbytes(1 << 20))
        self.digest = sha256_of(self.large)
        config = resolve(load_dataset("demo"), "tac", name=RUN, store={"uri": self.store.uri}, root="/data")
        self.run.create(config, None)
        self.run.publish_epoch(self.large, epoch_record(1, self.large))
        for name in self.names:
            path = self.small / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw.randbytes(SMALL_BYTES))
        self._rclone("copy", str(self.small), f"s3:runs/{self._key('')}")

    def _key(self, name: str) -> str:
        return f"team/{RUN}/{name}".rstrip("/")

    def _file(self) -> str:
        return str(self.here / "file")

    def _upload_small(self) -> None:
        def upload(name: str) -> None:
            path = self.small / name
            self.store.upload(f"up/ours/{name}", path, sha256=sha256_of(path))

        with ThreadPoolExecutor(PARALLEL_UPLOADS) as pool:
            list(pool.map(upload, self.names))

    def _tspctl(self, *words: str) -> None:
        program = str(Path(sys.executable).with_name("tspctl"))
        variables = {
            "TSPCTL_BACKEND": "local",
            "TSPCTL_STORE": self.store.uri,
            "TSPCTL_ENDPOINT_URL": self.server.endpoint_url,
            "TSPCTL_REGION": "us-east-1",
        }
        subprocess.run([program, *words], env={**os.environ, **variables}, check=True, capture_output=True)

    def _boto3(self, key: str) -> None:
        command = [sys.executable, "-c", _BOTO3, self.server.endpoint_url, self.server.bucket, key, self._file()]
        subprocess.run(command, check=True, capture_output=True)

    def _rclone(self, *words: str) -> None:
        variables = {
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Rclone" if self.server.name == "rclone" else "Other",
            "RCLONE_CONFIG_S3_ENDPOINT": self.server.endpoint_url,
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": self.server.access_key,
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": self.server.secret_key,
        }
        program = str(Path(sys.executable).with_name("rclone"))
        subprocess.run(
            [program, *words, "--config", os.devnull], env={**os.environ, **variables}, check=True, capture_output=True
        )


if __name__ == "__main__":
    main()
