"""How much at once, and how much a second.

Rule: both limits may live at module level and serve any number of runs, one after the
other, on any backend: what is borrowed or waited for is kept per run.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from anyio import (
    CapacityLimiter,
    CapacityLimiterStatistics,
    Lock,
    NoEventLoopError,
    current_time,
    sleep_until,
)
from anyio.lowlevel import current_token

from . import _observe
from ._arguments import name_of, shown
from ._tokens import seen_wait

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

#: Those that are there, for whoever finds a token and asks whose it is.
LIMITERS: WeakSet[Limiter] = WeakSet()


class _PerRun(Generic[T]):
    """One value per run; forgotten with the run, or with this object, as either ends."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[object, T] = WeakKeyDictionary()

    def get(self) -> T | None:
        return self._values.get(current_token().native_token)

    def set(self, value: T) -> T:
        self._values[current_token().native_token] = value
        return value


class Limiter(CapacityLimiter):
    """A capacity limiter with a name, which may be made anywhere and used by any run.

    An `anyio.CapacityLimiter`: it goes wherever one of those goes, and ``async with
    limiter:`` borrows a token for the block. Where the limiter is made inside the run that
    uses it, and errors need not name it, anyio's is enough.

    Args:
        tokens: How many may be borrowed at once; ``math.inf`` for no limit.
        name: What errors and traces call it, such as "database".

    Raises:
        TypeError: If there is no name, or *tokens* is no number.
        ValueError: If *tokens* is less than 1.

    Example:
        >>> DATABASE = ka.Limiter(5, name="database")
        >>> rows = await ka.offload(query, sql, limiter=DATABASE)
    """

    __slots__ = ("_misused", "_runs", "_tokens", "name")

    def __new__(cls, tokens: float, *misplaced: object, name: str = "") -> Self:
        if misplaced or not name:
            raise _misplaced(name_of(cls), tokens, *misplaced)
        return object.__new__(cls)

    def __init__(  # pyright: ignore[reportInconsistentConstructor]  # says it to checkers
        self, tokens: float, *, name: str
    ) -> None:
        self._tokens = _checked(tokens)
        self.name: str = _checked_name(name)
        self._runs: _PerRun[CapacityLimiter] = _PerRun()
        self._misused = _Misused(self.name)
        LIMITERS.add(self)

    @property
    def current(self) -> CapacityLimiter:
        """The anyio limiter that counts for the run of the caller."""
        return self._runs.get() or self._runs.set(CapacityLimiter(self._tokens))

    def __repr__(self) -> str:
        return f"<Limiter {self.name!r} tokens={self._tokens}>"

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def total_tokens(self) -> float:
        """How many tokens there are. Setting it changes this run and the ones after it."""
        try:
            return self.current.total_tokens
        except NoEventLoopError:
            return self._tokens

    @total_tokens.setter
    def total_tokens(self, value: float) -> None:
        self._tokens = _checked(value)
        with suppress(NoEventLoopError):
            self.current.total_tokens = value

    @property
    def borrowed_tokens(self) -> int:
        return self.statistics().borrowed_tokens

    @property
    def available_tokens(self) -> float:
        return self.total_tokens - self.borrowed_tokens

    def acquire_nowait(self) -> None:
        with self._misused:
            self.current.acquire_nowait()

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        with self._misused:
            self.current.acquire_on_behalf_of_nowait(borrower)

    async def acquire(self) -> None:
        with self._misused:
            await self._seen(self.current.acquire())

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        with self._misused:
            await self._seen(self.current.acquire_on_behalf_of(borrower))

    def _seen(self, wait: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
        if _observe.observer is None:
            return wait
        return seen_wait(wait, self.current, str.__repr__(self.name))

    def release(self) -> None:
        with self._misused:
            self.current.release()

    def release_on_behalf_of(self, borrower: object) -> None:
        with self._misused:
            self.current.release_on_behalf_of(borrower)

    def statistics(self) -> CapacityLimiterStatistics:
        try:
            return self.current.statistics()
        except NoEventLoopError:  # where nothing is borrowed
            return CapacityLimiter(self._tokens).statistics()


class _Misused:
    """A block in which who borrows twice, or gives back twice, is told of which limiter."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_type is RuntimeError and "this borrower is" in str(exc_val):
            if "already" in str(exc_val):
                what = "this borrower holds a token already; give it back first, or borrow the "
                what += "next one with acquire_on_behalf_of(object())"
            else:
                what = "this borrower holds no token, and has none to give back"
            raise RuntimeError(f"limiter {self._name!r}: {what}") from None


def _misplaced(call: str, *given: object) -> TypeError:
    names = [value for value in given if isinstance(value, str)] or ["database"]
    tokens = [value for value in given if not isinstance(value, str)] or [5]
    return TypeError(
        f"{call}({', '.join(map(shown, given))}): a limiter is made of its tokens and a name, "
        f"which errors call it by; write {call}({shown(tokens[0])}, name={names[0]!r})"
    )


def _checked(tokens: float) -> float:
    if tokens != math.inf and (isinstance(tokens, bool) or not isinstance(tokens, int)):
        raise TypeError(
            f"tokens must be a whole number or math.inf, not {shown(tokens)}; such as 5, for "
            "five at once"
        )
    if tokens < 1:
        raise ValueError(
            f"tokens must be 1 or more, not {tokens!r}; with none, every caller would hang"
        )
    return tokens


def _checked_name(name: str) -> str:
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"name must be text, not {shown(name)}; such as 'database'")
    return name


class RateLimit:
    """At most *per_second* starts a second, shared by all who use it.

    ``async with limit:`` waits for its turn; turns come in the order asked for. Cancelling a
    waiter gives its turn to the next one. Only the start is limited, not how long the block
    takes: for that use a `Limiter`.

    Args:
        per_second: Starts a second; 0.1 is one every ten seconds.
        burst: How many may start at once after a pause. With 1 a start that the loop's timers
            made late is never caught up, which costs a few percent at 200 a second and half
            at 2 000; above that, allow a burst.

    Example:
        >>> GITHUB = ka.RateLimit(10)
        >>> async with GITHUB:
        ...     await call_github()
    """

    __slots__ = ("_burst", "_per_second", "_runs")

    def __init__(self, per_second: float, *, burst: int = 1) -> None:
        if isinstance(per_second, bool) or not isinstance(per_second, (int, float)):
            raise TypeError(
                f"per_second must be a number of starts a second, not {shown(per_second)}; "
                "write RateLimit(10)"
            )
        if not 0 < per_second < math.inf:
            raise ValueError(
                f"per_second must be more than 0 and finite, not {per_second!r}; "
                "for no limit leave the RateLimit out"
            )
        if not isinstance(burst, int) or isinstance(burst, bool) or burst < 1:
            raise ValueError(
                f"burst must be a whole number of at least 1, not {burst!r}; "
                "1 spaces all starts evenly"
            )
        self._per_second = per_second
        self._burst = burst
        self._runs: _PerRun[_Turns] = _PerRun()

    def __repr__(self) -> str:
        return f"<RateLimit {self._per_second:g} a second, burst={self._burst}>"

    async def __aenter__(self) -> None:
        turns = self._runs.get() or self._runs.set(_Turns(self._per_second, self._burst))
        await turns.take()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


class _Turns:
    """When the next start is due. (The generic cell rate algorithm, ITU-T I.371.)"""

    __slots__ = ("_burst", "_first", "_lock", "_per_second", "_taken")

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._lock = Lock()
        # Turn n is due at first + n / per_second: counted, so that no rounding adds up.
        self._first = -math.inf
        self._taken = 0

    async def take(self) -> None:
        async with self._lock:
            due = self._first + (self._taken - self._burst + 1) / self._per_second
            if due > current_time():
                await sleep_until(due)
            now = current_time()
            if self._first + self._taken / self._per_second < now:
                self._first, self._taken = now, 0  # turns not used in time lapse
            self._taken += 1
