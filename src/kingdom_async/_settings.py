"""The environment variables, read and checked before any loop starts.

Rule: each variable has one parser, and a value it refuses is named with the variable and
with what is valid. An empty variable is one that is not set.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._backend import choose_backend

PREFIX = "KINGDOM_ASYNC_"

Level: TypeAlias = Literal["off", "life", "steps"]
_LEVELS: dict[str, Level] = {"off": "off", "life": "life", "steps": "steps"}


@dataclass(frozen=True)
class Settings:
    """What `run` and `environment` go by."""

    backend: str
    #: None where neither an argument nor the environment asked for a backend.
    asked: str | None
    trace: Level
    #: Where the recording goes, or None.
    trace_path: str | None
    #: True to let other processes of this user look and record.
    control: bool
    #: Seconds, or None for off.
    watchdog: float | None
    #: Tokens of the default thread limiter, or None to leave anyio's.
    threads: int | None


def read_settings(
    backend: str | None = None,
    trace: str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    runs: str | None = None,
    stacklevel: int = 3,
) -> Settings:
    """Argument beats environment beats default.

    Args:
        backend: What the program's author asks for, if anything.
        trace: The same.
        environ: Default, that of this process.
        runs: The backend that runs already; another one need not be installed.
        stacklevel: Whom a warning points at; 3 is the caller of the caller.

    Raises:
        ValueError: If a value is not valid.
        ImportError: If the backend is not installed.

    Warns:
        UserWarning: For a ``KINGDOM_ASYNC_`` name that does not exist, with the nearest one.
    """
    environ = os.environ if environ is None else environ
    _warn_of_unknown(environ, stacklevel + 1)
    level, path = _read_trace(
        *(("trace", trace) if trace is not None else _variable("TRACE", environ, "off"))
    )
    return Settings(
        backend=choose_backend(backend, environ, runs),
        asked=backend or environ.get(f"{PREFIX}BACKEND") or None,
        trace=level,
        trace_path=path,
        control=_read_control(*_variable("CONTROL", environ, "0")),
        watchdog=_read_watchdog(*_variable("WATCHDOG", environ, "off")),
        threads=_read_threads(*_variable("THREADS", environ, "")),
    )


def _variable(name: str, environ: Mapping[str, str], default: str) -> tuple[str, str]:
    return f"{PREFIX}{name}", environ.get(f"{PREFIX}{name}") or default


def _read_trace(name: str, value: str) -> tuple[Level, str | None]:
    asked, colon, path = value.partition(":")
    level = _LEVELS.get(asked)
    if level is None or (level == "off" and path) or (colon and not path):
        raise ValueError(
            f"{name}={value!r} is no level of tracing; use one of {', '.join(_LEVELS)}, the "
            "last two with ':path' for a recording"
        )
    return level, path or None


def _read_control(name: str, value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError(f"{name}={value!r} is no switch; use 1 for on, 0 for off")
    return value == "1"


def _read_watchdog(name: str, value: str) -> float | None:
    if value == "off":
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{name}={value!r} is no time; use seconds, such as 0.5, or off")
    return seconds


def _read_threads(name: str, value: str) -> int | None:
    if not value:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{name}={value!r} is no number of threads; use 1 or more, such as 40")
    return int(value)


#: Every variable there is; a later part of the package adds its own here.
VARIABLES = tuple(
    f"{PREFIX}{name}" for name in ("BACKEND", "TRACE", "WATCHDOG", "CONTROL", "THREADS")
)


def _warn_of_unknown(environ: Mapping[str, str], stacklevel: int) -> None:
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            from difflib import get_close_matches  # rarely needed, and dear to import

            nearest = get_close_matches(name, VARIABLES, n=1, cutoff=0.0)
            warnings.warn(
                f"{name} is no variable of kingdom_async and has no effect; "
                f"did you mean {nearest[0]}?",
                UserWarning,
                stacklevel=stacklevel,
            )
