"""Sockets of asyncio's servers: the program's are found, those that asyncio loses are not."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Literal

import pytest

from kingdom_async.testing.faults import cancel_everywhere
from support.backends import REAL, chosen

asyncio_backends = pytest.mark.parametrize(
    "backend", [name for name in chosen(REAL) if name != "trio"]
)
Mode = Literal["once", "native"]
both_modes = pytest.mark.parametrize("mode", ["once", "native"])


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(await reader.read(5))
    finally:
        writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(b"hello")
        assert await reader.read(5) == b"hello"
    finally:
        writer.close()


@both_modes
@asyncio_backends
def test_a_server_that_is_closed_leaves_nothing(mode: Mode, backend: str) -> None:
    """Though a client may have come in the very turn: asyncio drops that one unclosed."""

    async def body() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        async with server:
            await _ask(*await asyncio.open_connection(*server.sockets[0].getsockname()))

    cancel_everywhere(body, mode=mode, backend=backend).raise_if_failed()


@pytest.mark.skipif(not hasattr(asyncio, "start_unix_server"), reason="there is none")
@both_modes
@asyncio_backends
def test_nor_does_one_in_the_file_system(mode: Mode, backend: str, tmp_path: Path) -> None:
    """The same with a name in place of a port."""
    path = tmp_path / "socket"

    async def body() -> None:
        path.unlink(missing_ok=True)
        async with await asyncio.start_unix_server(_answer, path):
            await _ask(*await asyncio.open_unix_connection(path))

    cancel_everywhere(body, mode=mode, backend=backend).raise_if_failed()


def test_a_server_that_is_not_closed_is_found() -> None:
    """From the moment on at which the program has it."""

    async def body() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        await asyncio.sleep(0)
        server.close()

    report = cancel_everywhere(body, backend="asyncio")
    assert [failure.step for failure in report.failures] == [report.points]
    assert "left behind: unclosed <socket.socket" in str(report)


def test_a_connection_that_its_handler_does_not_close_is_found() -> None:
    """The server is closed by then, but it had handed the connection over."""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(5))

    async def body() -> None:
        server = await asyncio.start_server(keep, "127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await _ask(reader, writer)
        finally:
            server.close()

    report = cancel_everywhere(body, backend="asyncio")
    assert re.search("left behind: unclosed (transport|<StreamWriter)", str(report))
