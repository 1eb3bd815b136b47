"""Whether an async generator that stands still has something to do when it is closed.

Rule: it is read from the source. Where there is none, the answer is that it has.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import AsyncGeneratorType
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_CATCHES_ALL = {"BaseException", "GeneratorExit"}


def has_cleanup(generator: AsyncGeneratorType[Any, Any]) -> bool:
    """True if it stands in a ``with``, or a ``try`` that has something to do on the way out.

    One that is dropped elsewhere is over, and nothing is left undone.
    """
    frame = generator.ag_frame
    if frame is None or frame.f_lineno is None:
        return False
    around = _blocks_around(frame.f_code.co_filename, frame.f_lineno)
    return around is None or any(map(_cleans_up, around))


def _blocks_around(path: str, line: int) -> list[ast.stmt] | None:
    """The statements around a line, within its function; None where the source is not known."""
    tree = parsed(path, "".join(linecache.getlines(path)))
    if tree is None:
        return None
    around: list[ast.stmt] = []
    for node in _path_to(tree, line):
        if isinstance(node, _FUNCTIONS):
            around.clear()
        elif isinstance(node, ast.stmt):
            around.append(node)
    return around


def _path_to(node: ast.AST, line: int) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        first, last = getattr(child, "lineno", None), getattr(child, "end_lineno", None)
        if first is None or last is None:
            yield from _path_to(child, line)  # a handler's type or so: it has no place itself
        elif first <= line <= last:
            yield child
            yield from _path_to(child, line)


def _cleans_up(node: ast.stmt) -> bool:
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return True
    # A try; one with except* is of a class of its own, from Python 3.11 on.
    handlers: list[ast.ExceptHandler] = getattr(node, "handlers", [])
    return bool(getattr(node, "finalbody", [])) or any(map(_catches_all, handlers))


def _catches_all(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(
        isinstance(node, ast.Name) and node.id in _CATCHES_ALL
        for node in ast.walk(handler.type)
    )


@lru_cache(maxsize=64)
def parsed(path: str, source: str) -> ast.Module | None:
    try:
        return ast.parse(source, path) if source else None
    except (SyntaxError, ValueError):
        return None
