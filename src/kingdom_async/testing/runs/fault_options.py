"""What `cancel_everywhere` is given besides the body: checked, and written out again.

Rule: a value that would do nothing is refused; one that was given is in every replay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, NamedTuple, get_args

from ..._arguments import check_count, check_seconds, name_of, shown
from ..reports import called
from .checked import Check, check_check, check_kinds_of_errors
from .held import refuse_unwatchable
from .injection import MODES, Mode, Plan

Clock = Literal["virtual", "real"]
Raises = type[BaseException] | tuple[type[BaseException], ...]
#: How an argument is written: by its name, its value, and what the value is called.
Like = Callable[[str, object, str], str]

_CALL = "cancel_everywhere"
#: The defaults, which are not written out.
_GRACE, _PATIENCE = 1.0, 5.0


class Options(NamedTuple):
    """All of them."""

    check: Check | None
    watch: Collection[object]
    mode: Mode
    task: str | None
    raises: Raises
    seed: int | None
    clock: Clock
    grace: float
    patience: float
    only: int | None

    @property
    def plan(self) -> Plan:
        return Plan(self.mode, self.task, self.seed)

    @property
    def allowed(self) -> tuple[type[BaseException], ...]:
        return self.raises if isinstance(self.raises, tuple) else (self.raises,)

    def refuse_wrong(self, backend: str) -> None:
        """Raise for what is no such option, or not on *backend*."""
        if self.mode not in MODES:
            raise ValueError(
                f"mode must be one of {', '.join(map(repr, MODES))}, not {shown(self.mode)}"
            )
        if self.mode == "native" and backend == "trio":
            raise ValueError(
                "mode='native' is asyncio's Task.cancel(), which trio does not have; "
                "use backend='asyncio', or mode='once'"
            )
        check_check(_CALL, self.check)
        refuse_unwatchable(self.watch)
        check_kinds_of_errors(_CALL, self.raises)
        check_clock(self.clock)
        if not (self.task is None or isinstance(self.task, str)):
            raise TypeError(
                f"task takes the name of tasks, not {shown(self.task)}; write task='worker*'"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | None):
            raise TypeError(f"seed takes one whole number, not {shown(self.seed)}")
        check_seconds("grace", self.grace, "write grace=1")
        check_seconds("patience", self.patience, "write patience=5")
        if self.patience == 0:
            raise ValueError("patience must be more than 0 seconds; write patience=5")
        if self.only is not None:
            check_count("only", self.only, "write only=3, as a failure's replay says")

    def text(self, like: Like) -> str:
        """What was given, as it is written in a call."""
        given = [f"check={like('check', self.check, called(self.check))}"] if self.check else []
        if self.watch:
            given.append(f"watch={like('watch', self.watch, '…')}")
        if self.mode != "once":
            given.append(f"mode={self.mode!r}")
        if self.task is not None:
            given.append(f"task={self.task!r}")
        if self.raises:
            given.append(f"raises={like('raises', self.raises, _kinds(self.raises))}")
        if self.seed is not None:
            given.append(f"seed={self.seed}")
        if self.clock != "virtual":
            given.append(f"clock={self.clock!r}")
        if self.grace != _GRACE:
            given.append(f"grace={self.grace!r}")
        if self.patience != _PATIENCE:
            given.append(f"patience={self.patience!r}")
        return "".join(f", {one}" for one in given)


def check_clock(clock: object) -> None:
    """Raise for what is no clock."""
    if clock not in get_args(Clock):
        raise ValueError(f"clock must be 'virtual' or 'real', not {shown(clock)}")


def named(_argument: str, _value: object, name: str) -> str:
    """Everything by its own name."""
    return name


def nothing_to_do(body: object, plan: Plan, names: Collection[str]) -> ValueError:
    """The error for a body that takes no step at which anything could be done."""
    call = f"{_CALL}({name_of(body)})"
    if plan.task is not None:
        there = ", ".join(sorted(map(repr, names))) or "none"
        return ValueError(
            f"{call}: no task called {plan.task!r} has taken a step; there were {there}"
        )
    if plan.mode == "error":
        return ValueError(
            f"{call}: it waits in no checkpoint and no sleep of its own, where mode='error' "
            "raises; let these stand for what may fail"
        )
    return ValueError(f"{call}: it never waits, so it cannot be cancelled")


def _kinds(raises: Raises) -> str:
    if isinstance(raises, tuple):
        return f"({', '.join(map(called, raises))}{',' * (len(raises) == 1)})"
    return called(raises)
