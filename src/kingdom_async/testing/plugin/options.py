"""The options of the pytest plugin, read and checked.

Rule: a value that is refused is named with what is valid, before any test runs.
"""

from __future__ import annotations

import pytest

from kingdom_async_pytest import setting

from ..._backend import BACKENDS, installed_backends


def read_backends(config: pytest.Config) -> tuple[str, ...] | None:
    given = setting(config, "backends")
    if given is None:
        return None
    names = tuple(name.strip() for name in given.split(","))
    for name in names:
        if name not in installed_backends():
            missing = "is not installed" if name in BACKENDS else "is no backend"
            raise pytest.UsageError(
                f"kingdom_backends: {name!r} {missing}; use some of "
                f"{', '.join(installed_backends())}, with commas between"
            )
    return names


def read_timeout(config: pytest.Config) -> float | None:
    """Seconds; 0 for off; None for the default."""
    given = setting(config, "timeout")
    if given is None or given == "off":
        return None if given is None else 0.0
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(
            f"kingdom_timeout: {given!r} is no time; use real seconds, such as 30, or off"
        )
    return seconds


def read_trace(config: pytest.Config) -> str | None:
    given = setting(config, "trace")
    if given not in (None, "off", "life", "steps"):
        raise pytest.UsageError(f"kingdom_trace: {given!r} is no level; use off, life or steps")
    return None if given == "off" else given


def read_seed(config: pytest.Config) -> int:
    given = setting(config, "seed") or "0"
    try:
        return int(given)
    except ValueError:
        raise pytest.UsageError(
            f"kingdom_seed: {given!r} is no number; use one such as 42"
        ) from None
