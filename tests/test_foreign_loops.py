"""The whole API in one small program, under loops that somebody else started."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import pytest
import trio
import uvicorn

import kingdom_async as ka
from support.backends import REAL, chosen

LIMITER = ka.Limiter(2, name="shared by all runs")
RATE = ka.RateLimit(1e6)


async def double(number: int) -> int:
    await ka.checkpoint()
    return 2 * number


async def numbers() -> AsyncIterator[int]:
    for number in range(5):
        yield number


async def program() -> str:
    """Each primitive once; returns the backend it ran on."""
    with ka.environment():
        await tasks()
        await bulk_work()
        await time()
        await queues()
        await elsewhere()
    return ka.current_backend()


async def tasks() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(ka.sleep_forever, daemon=True)
        handle = group.start_soon(double, 4)
    assert handle.return_value == 8
    with pytest.raises(KeyError):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail)
            await ka.sleep_forever()
    assert await ka.gather(double(1), double(2)) == (2, 4)
    assert await ka.first_success(fail(), double(3)) == 6
    assert await ka.first_finished(ka.sleep_forever(), double(3)) == 6


async def fail() -> int:
    raise KeyError


async def bulk_work() -> None:
    assert await ka.amap(double, range(100), limit=7, rate=RATE) == [*range(0, 200, 2)]
    assert await ka.amap(double, numbers(), limit=2) == [0, 2, 4, 6, 8]
    async with ka.imap(double, numbers(), limit=2) as results:
        assert [result async for result in results] == [0, 2, 4, 6, 8]


async def time() -> None:
    with pytest.raises(ka.DeadlineExceeded), ka.fail_after(0):
        await ka.sleep_forever()
    with ka.move_on_after(0) as scope:
        await ka.sleep_forever()
    assert scope.cancelled_caught
    assert await ka.with_timeout(0, ka.sleep_forever(), default=7) == 7
    with ka.move_on_after(60), ka.shielded(30):
        assert 0 < ka.remaining() <= 30
        await ka.checkpoint()


async def queues() -> None:
    queue = ka.Queue[int](3)

    async def produce() -> None:
        with queue.producing():
            for number in range(50):
                await queue.put(number)

    async with ka.TaskGroup() as group:
        group.start_soon(produce)
        assert sum([sum(batch) async for batch in queue.batches(2)]) == sum(range(50))


async def elsewhere() -> None:
    async with LIMITER:
        assert await ka.offload(divmod, 7, 2, limiter=LIMITER) == (3, 1)
    assert await ka.offload(ka.from_thread.run, double, 4) == 8
    assert await ka.offload(divmod, 7, 2, to="process") == (3, 1)
    assert await ka.offload_map(str, range(5), limit=2) == ["0", "1", "2", "3", "4"]


def by_asyncio(backend: str) -> str:
    if backend == "asyncio":
        return asyncio.run(program())
    import uvloop

    return uvloop.run(program())


def by_trio(backend: str) -> str:
    return trio.run(program)


def by_anyio(backend: str) -> str:
    name, _, loop = backend.partition("+")
    return anyio.run(
        program, backend=name, backend_options={"use_uvloop": True} if loop else {}
    )


STARTERS = [
    pytest.param(start, backend, id=f"{start.__name__}-{backend}")
    for backend in chosen(REAL)
    for start in (by_anyio, by_trio if backend == "trio" else by_asyncio)
]


@pytest.mark.parametrize(("start", "backend"), STARTERS)
def test_everything_works(start: Callable[[str], str], backend: str) -> None:
    """Under asyncio.run, trio.run and anyio.run; limits at module level serve them all."""
    assert start(backend) == backend


@pytest.mark.parametrize("loop", [b for b in chosen(REAL) if b != "trio"])
def test_everything_works_under_uvicorn(loop: str) -> None:
    """In a request of a real server, on either of its loops."""
    outcomes: list[Any] = []

    async def application(
        scope: dict[str, Any],
        receive: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
        send: Callable[[dict[str, Any]], Coroutine[Any, Any, None]],
    ) -> None:
        assert scope["type"] == "http"
        try:
            outcomes.append(await program())
        except BaseException as error:
            outcomes.append(error)
        headers = [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})
        server.should_exit = True

    config = uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        loop="uvloop" if loop == "asyncio+uvloop" else "asyncio",
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with socket.create_connection(listener.getsockname()) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 204")
        thread.join()
    assert outcomes == [loop]
