"""Mutants: the changes of operators and constants that cosmic-ray can make to a module, and a seeded sample of them."""

from __future__ import annotations

import ast
import functools
import random
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

OPERATORS = re.compile(
    r"ReplaceBinaryOperator|ReplaceComparisonOperator|ReplaceUnaryOperator|ReplaceTrue|ReplaceFalse|ReplaceAnd|ReplaceOr"
    r"|ReplaceBreak|ReplaceContinue|AddNot|NumberReplacer|ZeroIteration"
)
"""Not among them: exceptions of other types, removed decorators, replaced variables. They make code that cannot run."""


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
    """One of the mutants of a module whose behaviour may differ; None if there is none."""
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


class _Behaviour(ast.NodeTransformer):
    """Leaves out what changes no behaviour: annotations, markers in signatures and of dataclasses."""

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.args, node.posonlyargs = [*node.posonlyargs, *node.args, *node.kwonlyargs], []
        node.defaults += [default for default in node.kw_defaults if default is not None]
        node.kwonlyargs, node.kw_defaults = [], []
        return self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        return None if node.arg in {"slots", "frozen", "kw_only"} else self.generic_visit(node)

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
    """What a module does; None for code that cannot run, or that Python warns of when it compiles it.

    It warns of ``is`` beside a literal, which the linter refuses, too: no such change could ever land.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        try:
            compile(code, "mutant", "exec", dont_inherit=True)
        except SyntaxError:
            return None
    return ast.dump(_Behaviour().visit(ast.parse(code)))


def draw(root: Path, packages: list[str], number: int, seed: int) -> list[Mutant]:
    """A sample of a checkout: as many mutants of each package, module by module so that long ones do not fill it."""
    rng, drawn = random.Random(seed), dict[str, Mutant]()
    for package in packages:
        paths = sorted(str(path.relative_to(root)) for path in (root / package).rglob("*.py"))
        for _ in range(-(-number // len(packages))):
            if (mutant := draw_mutant(root, rng.choice(paths), rng)) is not None:
                drawn[mutant.key] = mutant
    return list(drawn.values())[:number]
