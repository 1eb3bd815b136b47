"""What there is to run, each under a name: so many seeds on a backend, and what was found.

Rule: a check is a function of seeds and a backend; what it finds can be seen again by one line.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NamedTuple, get_args

from kingdom_async.testing import explore

from .limit_programs import limiters, maps
from .programs import differences
from .queue_histories import linearizability
from .queue_programs import Body, Mode, conformance, injected

#: Programs are run on all backends at once, to be compared.
EVERY = "every backend"


#: In anyio's groups on asyncio a Task.cancel() may be taken for the group's own cancellation
#: (seeds 48, 65, 80 and 90; see docs/design/decisions.md).
_ANYIOS = "swallowed: task 'tests.soak.queue_programs.injected.<locals>.queue_program'"


class Found(NamedTuple):
    """A seed that failed, and how."""

    seed: int
    what: str


class Check(NamedTuple):
    """One of them."""

    name: str
    about: str
    #: Gives what was found, and adds figures to the tally.
    run: Callable[[range, str, Counter[str]], list[Found]]
    #: How many seeds in a full run; for each backend, if it is run on each.
    full: int
    on_each_backend: bool = True


def _explored(body: Callable[..., Body]) -> Callable[[range, str, Counter[str]], list[Found]]:
    def run(seeds: range, backend: str, tally: Counter[str]) -> list[Found]:
        with _quiet():
            report = explore(body(tally=tally), seeds=seeds, backend=backend)
        found = [Found(failure.seed or 0, _said(failure.error)) for failure in report.failures]
        if report.injected < len(seeds):
            found.append(Found(seeds[report.injected], f"not run: {report.remarks}"))
        return found

    return run


def _said(error: BaseException) -> str:
    parts = getattr(error, "exceptions", ())
    return "; ".join(map(_said, parts)) or f"{type(error).__name__}: {error}"


def _injected(seeds: range, backend: str, tally: Counter[str]) -> list[Found]:
    found: list[Found] = []
    for seed in seeds:
        for mode in get_args(Mode):
            if backend == "trio" and mode == "native":
                continue
            if mode != "once" and sys.version_info < (3, 11):
                continue  # anyio may take Task.cancel() for a scope's own there
            with _quiet():
                report = injected(seed, backend, mode=mode)
            tally["points"] += report.injected
            for failure in report.failures:
                if mode == "native" and str(failure.error).startswith(_ANYIOS):
                    tally["swallowed by anyio's group"] += 1
                else:
                    found.append(Found(seed, f"mode {mode}: {failure}"))
    return found


def _programs(seeds: range, backend: str, tally: Counter[str]) -> list[Found]:
    return [
        Found(seed, "\n".join(different))
        for seed in seeds
        if (different := differences(seed, tally=tally))
    ]


CHECKS = (
    Check(
        "queue",
        "items in = items out + left + counted, none doubled, in order, nobody hangs",
        _explored(conformance),
        10_000,
    ),
    Check("injected", "the same, cancelled as a whole at each step in turn", _injected, 100),
    Check(
        "histories",
        "concurrent histories of a queue are those of a plain model",
        _explored(linearizability),
        10_000,
    ),
    Check("limiter", "never more holders than tokens", _explored(limiters), 2000),
    Check("maps", "amap and imap: never more at work, each item once", _explored(maps), 2000),
    Check("programs", "made-up programs come to the same everywhere", _programs, 1000, False),
)


@contextmanager
def _quiet() -> Generator[None]:
    """That a queue is left with items in it is logged, and here on purpose."""
    logger = logging.getLogger("kingdom_async")
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was
