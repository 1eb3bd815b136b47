"""How the call of a testing tool is written, so that a replay can be pasted where it stands.

Rule: it is read from the source, and only where something has failed. Where there is none, the
names of things must do.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import sys
from types import FrameType

from ..leftovers.cleanups import parsed

_MISSING = object()


class Written:
    """The call of *tool* by whoever called the function that makes this."""

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._frame: FrameType | None = sys._getframe(2)
        if _is_fixture(self._frame):
            self._frame = self._frame.f_back
        self._arguments: dict[str, str] | None = None

    def like(self, argument: str, value: object, name: str) -> str:
        """What stands for *value* there: *name* where it is called so, else what is written."""
        if self._is_called(name, value):
            return name
        if self._arguments is None:
            self._arguments = self._read()
        return self._arguments.get(argument, name)

    def _is_called(self, name: str, value: object) -> bool:
        if self._frame is None:
            return False
        first, *rest = name.split(".")
        frame = self._frame
        found: object = _MISSING
        for names in (frame.f_locals, frame.f_globals, vars(builtins)):
            if first in names:
                found = names[first]
                break
        for part in rest:
            found = getattr(found, part, _MISSING)
        return found is value

    def _read(self) -> dict[str, str]:
        """The arguments as they are written; the first, however it is given, is the body."""
        if self._frame is None:
            return {}
        path, line = self._frame.f_code.co_filename, self._frame.f_lineno
        source = "".join(linecache.getlines(path, self._frame.f_globals))
        tree = parsed(path, source)
        calls = [] if tree is None else [*filter(self._is_call, ast.walk(tree))]
        here = [one for one in calls if _spans(one, line)]
        if len(here) != 1:
            return {}
        (call,) = here
        assert isinstance(call, ast.Call)
        given = {one.arg: one.value for one in call.keywords if one.arg}
        if call.args and not isinstance(call.args[0], ast.Starred):
            given["body"] = call.args[0]
        return {name: _in_one_line(source, node) for name, node in given.items()}

    def _is_call(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        func = node.func
        name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", None)
        return name == self._tool


def _in_one_line(source: str, node: ast.expr) -> str:
    text = ast.get_source_segment(source, node)
    return ast.unparse(node) if text is None or "\n" in text else text


def _spans(node: ast.AST, line: int) -> bool:
    first: int = getattr(node, "lineno", 0)
    last: int | None = getattr(node, "end_lineno", None)
    return first <= line <= (last or first)


def _is_fixture(frame: FrameType) -> bool:
    """True for the function that a fixture gives, which only passes on."""
    return frame.f_globals.get("__name__") == "kingdom_async.pytest_plugin"
