"""Whether a testing tool can work with the asyncio, trio and anyio that are installed.

Rule: the private names that `kingdom_async.testing` relies on are used in this folder. Each
feature that needs some has a check, which runs once, when the feature is first used: where a
name is gone, the feature is off and says so, and nothing else is.

To add one: write the functions that use the names, then a check that tries them for real or
asks for each name, and register it with ``@checks("what the user knows it as")``. Call `need`
with that text where the feature starts.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

_checks: dict[str, Callable[[], None]] = {}
_found: dict[str, str | None] = {}


class FeatureOff(RuntimeError):
    """A testing tool cannot work with what is installed here."""


def need(feature: str) -> None:
    """Make sure that *feature* can work here.

    Raises:
        FeatureOff: If what it needs of asyncio, trio or anyio is gone.
    """
    missing = what_is_missing(feature)
    if missing is not None:
        versions = ", ".join(f"{name} {version(name)}" for name in ("anyio", "trio"))
        raise FeatureOff(
            f"{feature} is off: {missing} is not there any more ({versions}); use the versions "
            "that this release of kingdom_async was tested with, or do without it"
        )


def what_is_missing(feature: str) -> str | None:
    """The name that *feature* needs and that is gone; None where all are there."""
    if feature not in _found:
        _found[feature] = None
        try:
            _checks[feature]()
        except Exception as error:
            text = str(error)
            _found[feature] = text if isinstance(error, Gone) else f"something ({error!r})"
    return _found[feature]


class Gone(Exception):
    """A private name is gone."""


def checks(feature: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """The function decorated raises `Gone` where a name that *feature* needs is gone."""

    def register(check: Callable[[], None]) -> Callable[[], None]:
        _checks[feature] = check
        return check

    return register


def wanted(owner: object, *names: str) -> None:
    """Each of *names* is an attribute of *owner*."""
    label = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", repr(owner))
    for name in names:
        if not hasattr(owner, name):
            raise Gone(f"{label}.{name}")
