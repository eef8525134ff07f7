"""kubectl for the tests: what the product says of a cluster is checked through another client than its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

PATIENCE_SEC = 300
"""How long a test waits for what should come soon: only a test that fails waits so long, and a busy machine never."""
T = TypeVar("T")
Object = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig, in one namespace where one is set."""

    kubeconfig: Path
    program: str
    namespace: str | None = None

    def within(self, namespace: str) -> Kubectl:
        """The same cluster, in ``namespace``."""
        return replace(self, namespace=namespace)

    def try_run(self, *arguments: str, stdin: str = "", timeout_sec: int = 120) -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever comes of it."""
        place = ["--namespace", self.namespace] if self.namespace else []
        command = [self.program, "--kubeconfig", str(self.kubeconfig), *place, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_sec, check=False)

    def run(self, *arguments: str, stdin: str = "", timeout_sec: int = 120) -> str:
        """Standard output of kubectl; the test fails with its standard error if kubectl does."""
        done = self.try_run(*arguments, stdin=stdin, timeout_sec=timeout_sec)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def get(self, *what: str) -> Object:
        """One object, or a list with ``items``."""
        answer: Object = json.loads(self.run("get", *what, "-o", "json"))
        return answer

    def items(self, *what: str) -> list[Object]:
        """The objects of a kind, narrowed by ``what``."""
        found: list[Object] = self.get(*what)["items"]
        return found

    def apply(self, *objects: Object) -> None:
        """Create or change objects, server-side."""
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.run("apply", "--server-side", "-f", "-", stdin=stdin)


def wait_for(
    get: Callable[[], T | None], *, what: str, timeout_sec: float = PATIENCE_SEC, describe: Callable[[], str] = str
) -> T:
    """The first true answer of ``get``, asked twice a second; fails with ``describe()`` when there is none in time."""
    end = time.monotonic() + timeout_sec
    while True:
        answer = get()
        if answer:
            return answer
        assert time.monotonic() < end, f"after {timeout_sec:.0f} s still no {what}\n{describe()}"
        time.sleep(0.5)


def true_conditions(thing: Object) -> set[str]:
    """Types of the conditions that hold."""
    conditions: Iterable[Object] = thing.get("status", {}).get("conditions") or []
    return {condition["type"] for condition in conditions if condition["status"] == "True"}
