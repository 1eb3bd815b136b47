"""Two operators of our own, beside those of cosmic-ray.

Rule: they take away what concurrent code is made of, a wake, a close, an `await`; cosmic-ray's
own change comparisons, numbers, conditions, loops and exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator

_Position = tuple[tuple[int, int], tuple[int, int]]


class RemoveStatement(Operator):
    """``pass`` in place of a call, an assignment, a ``raise``, a ``del`` or a ``return``."""

    def mutation_positions(self, node: Any) -> Iterator[_Position]:
        if _is_statement(node) and _does_something(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return _parsed("pass", node)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("def f():\n    g()\n", "def f():\n    pass\n"),)


class ReturnNone(Operator):
    """``return None`` in place of ``return value``."""

    def mutation_positions(self, node: Any) -> Iterator[_Position]:
        if node.type == "return_stmt" and node.children[1].get_code().strip() != "None":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return _parsed("return None", node)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("def f():\n    return 1\n", "def f():\n    return None\n"),)


def _is_statement(node: Any) -> bool:
    return node.parent is not None and node.parent.type == "simple_stmt"


def _does_something(node: Any) -> bool:
    if node.type == "expr_stmt":
        return any(leaf in ("=", "+=", "-=", "|=", "&=") for leaf in _leaves(node))
    if node.type == "keyword":
        return node.value in ("raise", "return")
    return node.type in ("atom_expr", "raise_stmt", "del_stmt")


def _leaves(node: Any) -> Iterator[str]:
    leaf, end = node.get_first_leaf(), node.end_pos
    while leaf is not None and leaf.start_pos < end:
        yield leaf.value
        leaf = leaf.get_next_leaf()


def _parsed(code: str, instead_of: Any) -> Any:
    node = parso.parse(code).children[0]
    node.parent = instead_of.parent
    node.get_first_leaf().prefix = instead_of.get_first_leaf().prefix
    return node
