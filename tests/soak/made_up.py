"""Made-up programs, as data: what each task does, and when.

Rule: the outcome of a program is determined. So no two tasks do anything by themselves in the
same moment: before each operation, and at the end of each script, a task sleeps for a time of
its own. All that follows in that moment, on whatever tasks, follows from that one operation.
"""

from __future__ import annotations

import random
from typing import NamedTuple

#: A delay is a whole number below this, so that sums of them are exact and never meet.
LONGEST = 1 << 34
#: Whatever still waits then is cancelled.
THE_END = float(1 << 46)

QUEUES = ((1, "wait"), (2, "wait"), (2, "drop_old"), (1, "drop_new"), (1, "error"))


class Op(NamedTuple):
    """One operation of a script."""

    kind: str
    #: The task sleeps for so long first.
    after: int
    number: int = 0
    #: Which alternative of that operation.
    way: str = ""
    scripts: tuple[Script, ...] = ()
    #: What it raises is logged, and the script goes on.
    catches: bool = True


class Script(NamedTuple):
    """What one task does, or one block of it."""

    name: str
    ops: tuple[Op, ...]
    #: It sleeps for so long at the end.
    last: int


def made(seed: int) -> Script:
    """The program of that seed."""
    return _Maker(random.Random(seed)).script("main", 0)


_SIMPLE = (
    ("sleep", ("",)),
    ("put", ("wait", "nowait")),
    ("put", ("wait", "nowait")),
    ("get", ("wait", "nowait", "batch", "linger", "drain")),
    ("get", ("wait", "nowait", "batch", "linger", "drain")),
    ("close", ("", "error")),
    ("event", ("set", "wait")),
    ("rate", ("",)),
    ("offload", ("value", "error")),
    ("raise", ("",)),
    ("raise", ("",)),
    ("cancel", ("group", "task", "task")),
    ("handle", ("",)),
)
_NESTED = (
    ("timeout", ("fail", "move", "with_timeout")),
    ("timeout", ("fail", "move", "with_timeout")),
    ("shield", ("",)),
    ("cleanup", ("", "raises")),
    ("limit", ("limiter", "lock")),
    ("group", ("group", "first")),
    ("group", ("group", "first")),
    ("group", ("group", "first")),
    ("gather", ("", "exceptions")),
    ("race", ("success", "stagger", "finished")),
    ("map", ("amap", "on_error", "imap", "imap unordered")),
)
_MANY = ("group", "gather", "race", "map")
_DEEPEST = 3


class _Maker:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._number = 0

    def script(self, name: str, depth: int) -> Script:
        most = 5 if depth < 2 else 3
        ops = [self._op(f"{name}.{n}", depth) for n in range(self._dice.randint(1, most))]
        return Script(name, tuple(ops), self._delay())

    def _op(self, name: str, depth: int) -> Op:
        dice = self._dice
        self._number += 1
        is_nested = depth < _DEEPEST and dice.random() < (0.8 if depth == 0 else 0.4)
        kind, ways = dice.choice(_NESTED if is_nested else _SIMPLE)
        if kind == "offload" and dice.random() < 0.7:
            kind, ways = "sleep", ("",)  # a thread costs more than all the rest
        scripts: tuple[Script, ...] = ()
        if is_nested:
            number = dice.randint(1, 4) if kind in _MANY else 1
            if kind in ("cleanup", "group"):
                number += 1  # the cleanup itself, and the body
            scripts = tuple(
                self.script(f"{name}{letter}", depth + 1) for letter in "abcde"[:number]
            )
        catches = dice.random() < 0.6
        return Op(kind, self._delay(), self._number, dice.choice(ways), scripts, catches)

    def _delay(self) -> int:
        return self._dice.randrange(1, LONGEST)


def text(script: Script, indent: str = "") -> str:
    """The program for people."""
    lines = [f"{indent}{script.name}:"]
    for op in script.ops:
        catches = "" if op.catches or not op.scripts else " (lets errors through)"
        lines.append(f"{indent}  {op.after:>11} {op.number:>3} {op.kind} {op.way}{catches}")
        lines += [text(inner, indent + "      ") for inner in op.scripts]
    lines.append(f"{indent}  {script.last:>11} end")
    return "\n".join(lines)
