"""A real FastAPI application under a real uvicorn: a 404 raised in a task answers 404."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import httpx
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException

import kingdom_async as ka
from support.backends import REAL, chosen

_UVICORN_LOOP = {"asyncio": "asyncio", "asyncio+uvloop": "uvloop"}

app = FastAPI()


async def load_user() -> str:
    await ka.checkpoint()
    raise HTTPException(404, "no such user")


async def load_posts() -> list[str]:
    await ka.sleep_forever()
    return []


async def fail_to_close() -> None:
    try:
        await ka.sleep_forever()
    finally:
        raise ValueError("cleanup")


@app.get("/gather")
async def with_gather() -> None:
    await ka.gather(load_user(), load_posts())


@app.get("/first")
async def with_first() -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(load_user)
        group.start_soon(load_posts)


@app.get("/first-of-several")
async def with_several_failures() -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(fail_to_close)
        await ka.checkpoint()
        group.start_soon(load_user)


@app.get("/nested")
async def with_a_nested_group_of_anyio() -> None:
    async def nested() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(load_user)

    await ka.gather(nested(), load_posts())


@app.get("/plain")
async def with_anyio() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(load_user)
        group.start_soon(load_posts)


@app.get("/backend")
async def backend() -> str:
    return ka.current_backend()


class Server(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: object = None) -> None:
        try:
            await super().startup()
        finally:
            self.listens.set()

    @property
    def port(self) -> int:
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


@pytest.fixture(scope="module", params=chosen([name for name in REAL if name in _UVICORN_LOOP]))
def backend_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def client(backend_name: str) -> Iterator[httpx.Client]:
    config = uvicorn.Config(
        app,
        port=0,
        loop=_UVICORN_LOOP[backend_name],
        lifespan="off",
        ws="none",
        log_config=None,
    )
    server = Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    server.listens.wait(60)
    try:
        url = f"http://127.0.0.1:{server.port}"
        fresh = httpx.Limits(max_keepalive_connections=0)  # uvicorn drops one after a 500
        with httpx.Client(base_url=url, timeout=60, limits=fresh) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.mark.parametrize("path", ["/gather", "/first", "/nested"])
def test_a_404_raised_in_a_task_answers_404(client: httpx.Client, path: str) -> None:
    """gather and errors="first" raise the HTTPException itself, so FastAPI handles it."""
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "no such user"})


def test_a_404_beside_another_failure_answers_404_and_the_other_is_logged(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """FastAPI would never show the second failure; the log does."""
    assert client.get("/first-of-several").status_code == 404
    (record,) = [record for record in caplog.records if record.name == "kingdom_async"]
    assert record.exc_info is not None
    assert repr(record.exc_info[1]) == "ValueError('cleanup')"


def test_with_a_plain_group_of_anyio_it_is_a_500(client: httpx.Client) -> None:
    """Why this matters: FastAPI has no handler for the ExceptionGroup that anyio raises."""
    assert client.get("/plain").status_code == 500


def test_the_server_runs_on_the_loop_it_was_told(
    client: httpx.Client, backend_name: str
) -> None:
    """The proof above is one for this loop."""
    assert client.get("/backend").json() == backend_name
