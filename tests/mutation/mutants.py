"""The mutants of a module: each is its source with one small fault.

Rule: what never runs, such as annotations and what only type checkers read, is not mutated.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.plugins import get_operator, operator_names

from .operators import RemoveStatement, ReturnNone

_Position = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One fault in one module."""

    module: str
    operator: str
    #: Which of the places where the operator fits.
    occurrence: int
    #: The lines of the statement, or of the head of the block, that it is in.
    lines: range
    #: The changed lines, without indentation, and what became of them.
    before: str
    after: str
    source: str
    #: False where this Python has no use for the line: it is for another, or for annotations.
    matters: bool

    @property
    def name(self) -> str:
        return f"{self.module}:{self.lines.start} {self.operator}#{self.occurrence}"

    @property
    def key(self) -> str:
        """What it is, wherever it stands: stays true when lines move."""
        return f"{self.module}: {self.before} -> {self.after}"


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of the module, by line."""
    code = path.read_text()
    tree, spans = get_ast(code), _Spans(code)
    nodes = list(ast_nodes(tree))
    found = []
    for name, operator in _operators():
        occurrence = -1
        for node in nodes:
            for index, (start, end) in enumerate(list(operator.mutation_positions(node))):
                occurrence += 1
                if spans.never_runs(start):
                    continue
                source = _mutated(tree, node, operator, index)
                if source == code or not _compiles(source):
                    continue
                before, after = _changed(code, source)
                lines = spans.statement(start[0], end[0])
                matters = not spans.is_of_no_use(start)
                found.append(
                    Mutant(path.stem, name, occurrence, lines, before, after, source, matters)
                )
    return sorted(
        found, key=lambda mutant: (mutant.lines.start, mutant.operator, mutant.occurrence)
    )


def _mutated(tree: Any, node: Any, operator: Any, index: int) -> str:
    """The source with the node mutated; the tree is as before then.

    (cosmic-ray's own function parses the module anew for each mutant, which takes minutes.)
    """
    touched = list(ast_nodes(node)) + ([] if node.parent is None else [node.parent])
    kept = [(each, dict(_state(each))) for each in touched]
    mutated = operator.mutate(node, index)
    if node.parent is not None:
        place = [child is node for child in node.parent.children].index(True)
        node.parent.children[place : place + 1] = [] if mutated is None else [mutated]
    source: str = tree.get_code()
    for each, state in kept:
        for name, value in state.items():
            setattr(each, name, value)
    return source


def _state(node: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(node, "children"):
        yield "children", list(node.children)
    else:
        yield from (("value", node.value), ("prefix", node.prefix))


def _operators() -> Iterator[tuple[str, Any]]:
    for full in sorted(operator_names()):
        kind = get_operator(full)
        if not kind.arguments():  # the others change variables that one must name
            yield full.partition("/")[2], kind()
    yield "RemoveStatement", RemoveStatement()
    yield "ReturnNone", ReturnNone()


def _compiles(source: str) -> bool:
    """False also for ``is "text"``, of which the compiler warns: a test would not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(source, "<mutant>", "exec")
    except (SyntaxError, SyntaxWarning, ValueError):
        return False
    return True


def _changed(code: str, source: str) -> tuple[str, str]:
    """The lines that differ; every mutant changes one stretch of lines."""
    before, after = code.splitlines(), source.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return " ".join(map(str.strip, before)), " ".join(map(str.strip, after))


class _Spans:
    """Where statements begin and end, and what of them never runs."""

    def __init__(self, code: str) -> None:
        self._still: list[tuple[_Position, _Position]] = []
        self._of_no_use: list[tuple[_Position, _Position]] = []
        self._statements: list[range] = []
        for node in ast.walk(ast.parse(code)):
            self._see(node)

    def _see(self, node: ast.AST) -> None:
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                self._still.append(_extent(annotation))
        if isinstance(node, ast.If):
            self._see_condition(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(
            ast.unparse(each) == "overload" for each in node.decorator_list
        ):
            self._still.append(
                ((node.decorator_list[0].lineno, 0), (node.end_lineno or 0, 999))
            )
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("TypeVar"):
            self._of_no_use.append(_extent(node))
        if isinstance(node, ast.stmt):
            self._statements.append(_own_lines(node))

    def _see_condition(self, node: ast.If) -> None:
        condition = ast.unparse(node.test)
        if condition in ("TYPE_CHECKING", "not TYPE_CHECKING"):
            self._still.append(_extent(node.test))
            self._still += map(_extent, node.body if condition == "TYPE_CHECKING" else [])
        if condition.startswith("sys.version_info"):
            self._of_no_use.append(_extent(node.test))
            branch = node.orelse if eval(condition, {"sys": sys}) else node.body
            self._of_no_use += map(_extent, branch)

    def never_runs(self, position: _Position) -> bool:
        return any(start <= position < end for start, end in self._still)

    def is_of_no_use(self, position: _Position) -> bool:
        return any(start <= position < end for start, end in self._of_no_use)

    def statement(self, first: int, last: int) -> range:
        """The lines of the smallest statement with these lines in it."""
        around = [span for span in self._statements if first in span]
        return min(around, key=len, default=range(first, last + 1))


def _extent(node: Any) -> tuple[_Position, _Position]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _own_lines(node: ast.stmt) -> range:
    """Its lines without those of the statements in it."""
    last = node.end_lineno or node.lineno
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        last = max(node.lineno, body[0].lineno - 1)
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    return range(first, last + 1)
