"""Print the tests that `make quick` runs: those of the packages touched since main, uncommitted changes included."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
ALSO = {
    "tsp/entrypoint.py": "tests/test_entrypoint.py",
    "tsp/errors.py": "tests/test_entrypoint.py",
    "charts": "tests/chart",
    "image": "tests/k8s/test_image.py",
}
"""Sources whose tests are not in the folder of the same name."""
OF_COMMANDS = {
    "tests/cli/commands",
    "tests/cli/test_main.py",
    "tests/cli/test_startup.py",
    "tests/cli/test_output.py",
    "tests/cli/backends/cluster/test_commands.py",
    "tests/cli/backends/cluster/run_states",
    "tests/cli/backends/local/test_backend.py",
    "tests/cli/backends/local/test_states.py",
}
"""Commands are tested on both backends; all tests of cli are more than a quick look."""
DOCUMENTS = ("*.md", "docs/**", "Makefile", "scripts/*", "examples/**")


def changed_files() -> list[str]:
    """Files that differ from the commit at which this branch left main, and files git does not know yet."""
    main = next((name for name in ("main", "origin/main") if _git("rev-parse", "-q", "--verify", name)), "HEAD")
    base = _git("merge-base", main, "HEAD").strip()
    return _git("diff", "--name-only", base).split() + _git("ls-files", "--others", "--exclude-standard").split()


def tests_of(path: str) -> set[str]:
    """The test files or folders that cover a file; none where nothing does."""
    source = PurePosixPath(path)
    if any(source.match(pattern) for pattern in DOCUMENTS) or path.startswith("docs/"):
        return {"tests/test_docs.py"}
    if path.startswith("cli/commands/"):
        return OF_COMMANDS
    for prefix, tests in ALSO.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return {tests}
    top = source.parts[0]
    if top == "tests":
        return _test_itself(source)
    return mirrored_tests(source) if top in {"cli", "k8s", "tsp"} else set()


def mirrored_tests(source: PurePosixPath) -> set[str]:
    """The folder of the same name, without folders in it that mirror packages of their own: those import no parent."""
    folder = PurePosixPath("tests", *(source.parts[1:-1] if source.parts[0] == "tsp" else source.parts[:-1]))
    while not (ROOT / folder).is_dir():
        folder = folder.parent
    if folder == PurePosixPath("tests"):
        return {"tests/test_entrypoint.py"}
    if not any((ROOT / source.parent).glob("*/__init__.py")):
        return {str(folder)}
    return {str(file.relative_to(ROOT)) for file in (ROOT / folder).glob("test_*.py")} or {str(folder)}


def _test_itself(path: PurePosixPath) -> set[str]:
    if path.parts[1] == "e2e" or path.suffix != ".py" or (len(path.parts) == 2 and not path.name.startswith("test_")):
        return set()  # shared helpers: everything depends on them, which is make test's business
    return {str(path if path.name.startswith("test_") else path.parent)}


def outermost(paths: set[str]) -> list[str]:
    """The paths that exist, without those inside another of them."""
    existing = {path for path in paths if (ROOT / path).exists()}
    return sorted(path for path in existing if not existing & {str(parent) for parent in PurePosixPath(path).parents})


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(*outermost({tests for path in changed_files() for tests in tests_of(path)}))
