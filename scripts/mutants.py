"""Change operators and constants of the core one at a time, and report the mutants that no test notices.

Which mutants there are and how they are made is cosmic-ray's; this draws a seeded sample of them over packages (its own
runner knows one test command for all files and no sampling across packages), runs the tests of the mutated module in a
private copy of the checkout, then those of its package, and leaves out what tests/mutants.md lists as equivalent.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tsp/config", "tsp/store", "tsp/run", "tsp/data", "tsp/train", "tsp/extract", "tsp/prepare", "k8s")
OPERATORS = re.compile(
    r"ReplaceBinaryOperator|ReplaceComparisonOperator|ReplaceUnaryOperator|ReplaceTrue|ReplaceFalse|ReplaceAnd|ReplaceOr"
    r"|ReplaceBreak|ReplaceContinue|AddNot|NumberReplacer|ZeroIteration"
)
"""Not among them: exceptions of other types, removed decorators, replaced variables. They make code that cannot run."""
TIMEOUT_SEC = 1800


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one line."""

    path: str
    number: int
    """Line."""
    before: str
    after: str
    code: str
    """The whole module, changed."""

    @property
    def key(self) -> str:
        """How tests/mutants.md names it; line numbers would not last."""
        return f"{self.path}: {self.before} -> {self.after}"


@functools.cache
def changes_of(source: str) -> list[tuple[str, int]]:
    """Operator and occurrence of every change that can be made to a module."""
    provider = OperatorProvider()
    operators = {name: provider[name]() for name in provider if OPERATORS.match(name)}
    counts, nodes = dict.fromkeys(operators, 0), [get_ast(source)]
    while nodes:
        node = nodes.pop()
        nodes.extend(getattr(node, "children", ()))
        for name, operator in operators.items():
            counts[name] += sum(1 for _ in operator.mutation_positions(node))
    return [(name, occurrence) for name, count in counts.items() for occurrence in range(count)]


def draw_mutant(root: Path, path: str, rng: random.Random) -> Mutant | None:
    """One of the mutants of a module whose program differs (annotations are no program); None if there is none."""
    source = (root / path).read_text()
    program, changes = _program(source), changes_of(source)
    for name, occurrence in rng.sample(changes, len(changes)):
        code = mutate_code(source, OperatorProvider()[name](), occurrence)
        if code is not None and (mutated := _program(code)) is not None and mutated != program:
            return _mutant(path, source, code)
    return None


def _mutant(path: str, source: str, code: str) -> Mutant:
    before, after = source.splitlines(), code.splitlines()
    number = next(index for index, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)
    return Mutant(path, number + 1, before[number].strip(), after[number].strip(), code)


class _NoAnnotations(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _program(code: str) -> str | None:
    try:
        return ast.dump(_NoAnnotations().visit(ast.parse(code)))
    except SyntaxError:
        return None


def draw(root: Path, packages: list[str], number: int, seed: int) -> list[Mutant]:
    """A sample of a checkout: as many mutants of each package, module by module so that long ones do not fill it."""
    rng, drawn = random.Random(seed), dict[str, Mutant]()
    for package in packages:
        paths = sorted(str(path.relative_to(root)) for path in (root / package).rglob("*.py"))
        for _ in range(-(-number // len(packages))):
            if (mutant := draw_mutant(root, rng.choice(paths), rng)) is not None:
                drawn[mutant.key] = mutant
    return list(drawn.values())[:number]


def tests_of(root: Path, path: str) -> list[str]:
    """The test file of the module's own name, where there is one, then the tests of its package without slow ones."""
    parts = Path(path).with_suffix("").parts
    folder = Path("tests", *(parts[1:-1] if parts[0] == "tsp" else parts[:-1]))
    while not (root / folder).is_dir():
        folder = folder.parent
    own = folder / f"test_{parts[-1]}.py"
    return [str(own), str(folder)] if (root / own).exists() else [str(folder)]


def is_noticed(mutant: Mutant, copy: Path) -> bool:
    """Whether a test fails, or never ends."""
    path = copy / mutant.path
    original = path.read_text()
    path.write_text(mutant.code)
    try:
        return any(_fails(tests, copy) for tests in tests_of(copy, mutant.path))
    finally:
        path.write_text(original)


def _fails(tests: str, copy: Path) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "not e2e and not slow",
        tests,
    ]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=TIMEOUT_SEC, text=True)
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in {0, 1, 2}:
        raise RuntimeError(f"pytest {tests} ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return done.returncode != 0


def equivalents() -> set[str]:
    """Keys of the mutants that no test can notice."""
    found = re.findall(r"^\| `(.+?)` \|", (ROOT / "tests/mutants.md").read_text(), flags=re.MULTILINE)
    return {key.replace("\\|", "|") for key in found}


def copy_checkout(target: Path) -> None:
    """Tracked and new files of the checkout, so that nothing that runs from it meets a mutant."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    if (ROOT.parent / "shared").is_dir():
        (target.parent / "shared").symlink_to(ROOT.parent / "shared")


def show(mutant: Mutant) -> None:
    """The change as a diff of its line."""
    lines = difflib.ndiff([mutant.before], [mutant.after])
    print(f"not noticed: {mutant.path}:{mutant.number}", *(line for line in lines if line[0] != "?"), sep="\n  ")


def main() -> None:
    """Exits with 1 if fewer than 95 % are noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=80, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("packages", nargs="*", default=list(PACKAGES))
    options = parser.parse_args()
    known, noticed, missed = equivalents(), 0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        copy_checkout(copy)
        for mutant in draw(copy, options.packages, options.number, options.seed):
            if mutant.key in known:
                print(f"equivalent: {mutant.key}", flush=True)
            elif is_noticed(mutant, copy):
                noticed += 1
                print(f"noticed: {mutant.key}", flush=True)
            else:
                missed.append(mutant)
                show(mutant)
                sys.stdout.flush()
    total = noticed + len(missed)
    print(f"{noticed} of {total} mutants noticed")
    sys.exit(noticed < 0.95 * total)


if __name__ == "__main__":
    main()
