"""Which loops the tests run on."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kingdom_async._backend import BACKENDS, anyio_backend, installed_backends
from kingdom_async.testing.clock import virtual_backend

VIRTUAL = ("asyncio+virtual", "trio+virtual")


def chosen(names: tuple[str, ...]) -> list[str]:
    """*names*, or those of them that KINGDOM_ASYNC_BACKEND asks for."""
    wanted = os.environ.get("KINGDOM_ASYNC_BACKEND")
    if wanted is None:
        return list(names)
    return [name for name in names if name.split("+virtual")[0] == wanted]


REAL = tuple(name for name in BACKENDS if name in installed_backends())

#: For tests in which time passes: it jumps to the next timer when nothing else can happen.
virtual_time = pytest.mark.parametrize("anyio_backend", chosen(VIRTUAL), indirect=True)

#: For what only asyncio has, such as Task.cancel().
asyncio_only = pytest.mark.parametrize(
    "anyio_backend", chosen(("asyncio", "asyncio+uvloop")), indirect=True
)


def backend_and_options(name: str) -> tuple[str, dict[str, Any]]:
    """What anyio's plugin is to run a test on."""
    if name in VIRTUAL:
        return virtual_backend(name.removesuffix("+virtual"))
    return anyio_backend(name)
