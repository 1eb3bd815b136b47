"""What type checkers see of the public API: checked by mypy and pyright, never run."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import anyio.abc

import kingdom_async as ka

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type


async def number(text: str = "") -> int: ...  # type: ignore[empty-body]
async def text(number: int = 0) -> str: ...  # type: ignore[empty-body]
def blocking(number: int, text: str = "") -> bytes: ...  # type: ignore[empty-body]
def length(text: str) -> int: ...  # type: ignore[empty-body]
def aiter_of_str() -> AsyncIterator[str]: ...  # type: ignore[empty-body]
def none(item: str, error: Exception) -> None: ...


def running() -> None:
    assert_type(ka.run(number), int)
    assert_type(ka.run(text, 1, backend="trio", trace="life"), str)
    ka.run(text, "one")  # type: ignore[arg-type]  # pyright: ignore  # the wrong argument
    with ka.environment():
        assert_type(ka.current_backend(), str)


async def task_groups() -> None:
    async with ka.TaskGroup(errors="first") as group:
        assert_type(group, ka.TaskGroup)
        first = group.start_soon(number, "a", name="first")
        second = group.create_task(text(1), daemon=True)
        third = await group.start(number, return_handle=True)
    # Bound inside the block, and not unbound after it.
    assert_type(first.return_value, int)
    assert_type(second.return_value, str)
    assert_type(third.return_value, int)
    group.start_soon(number, 1)  # type: ignore[arg-type]  # pyright: ignore
    ka.TaskGroup(errors="last")  # type: ignore[arg-type]  # pyright: ignore
    plain: anyio.abc.TaskGroup = group
    del plain


async def gathering() -> None:
    assert_type(await ka.gather(), tuple[()])
    assert_type(await ka.gather(number()), tuple[int])
    assert_type(await ka.gather(number(), text()), tuple[int, str])
    assert_type(
        await ka.gather(number(), text(), number(), text(), number(), text()),
        tuple[int, str, int, str, int, str],
    )
    assert_type(await ka.gather(*[number()]), tuple[int, ...])
    assert_type(
        await ka.gather(number(), text(), return_exceptions=True),
        tuple[int | Exception, str | Exception],
    )
    assert_type(
        await ka.gather(*[number()], return_exceptions=True), tuple[int | Exception, ...]
    )


async def races() -> None:
    assert_type(await ka.first_success(number(), number(), stagger=0.1), int)
    assert_type(await ka.first_finished(number(), text()), int | str)
    assert_type(await ka.first_finished(number()), int)


async def bulk_work(words: list[str]) -> None:
    assert_type(await ka.amap(number, words, limit=3), list[int])
    assert_type(await ka.amap(number, aiter_of_str(), limit=3, rate=2), list[int])
    assert_type(await ka.amap(number, words, on_error=none), list[int | None])
    kept = await ka.amap(number, words, on_error=ka.ErrorResult)
    assert_type(kept, list[int | ka.ErrorResult[str]])
    async with ka.imap(number, words, limit=3) as numbers:
        assert_type(numbers, AsyncIterator[int])
    async with ka.imap(number, words, limit=3, on_error=none) as results:
        async for result in results:
            assert_type(result, int | None)
    await ka.amap(text, words)  # type: ignore[arg-type]  # pyright: ignore
    ka.imap(number, words)  # type: ignore[call-overload]  # pyright: ignore  # no limit


async def time() -> None:
    with ka.fail_after(1, reason="loading") as scope:
        assert_type(scope, ka.CancelScope)
    with ka.move_on_after(None) as scope:
        assert_type(scope, ka.CancelScope)
    assert_type(await ka.with_timeout(1, number(), default=None), int | None)
    assert_type(ka.remaining(), float)
    with ka.shielded(5):
        await text()
    ka.shielded()  # type: ignore[call-arg]  # pyright: ignore  # grace has no default


async def queues() -> None:
    queue = ka.Queue[int](10, overflow="drop_old", name="numbers")
    with queue.producing():
        await queue.put(1)
        queue.put_nowait(2)
    assert_type(await queue.get(), int)
    assert_type(queue.get_nowait(), int)
    assert_type(await queue.get_batch(5), list[int])
    assert_type(queue.drain(), list[int])
    assert_type(queue.send_stream, anyio.abc.ObjectSendStream[int])
    assert_type(queue.receive_stream, anyio.abc.ObjectReceiveStream[int])
    assert_type(queue.statistics(), ka.QueueStatistics)
    async for item in queue:
        assert_type(item, int)
    async for batch in queue.batches(5, linger=0.1):
        assert_type(batch, list[int])
    await queue.put("one")  # type: ignore[arg-type]  # pyright: ignore
    ka.Queue[int]()  # type: ignore[call-arg]  # pyright: ignore  # maxsize has no default


async def elsewhere(words: list[str], pool: ThreadPoolExecutor) -> None:
    assert_type(await ka.offload(blocking, 1), bytes)
    assert_type(await ka.offload(blocking, 1, "one", to="process"), bytes)
    assert_type(await ka.offload(blocking, 1, to=pool), bytes)
    assert_type(await ka.offload(length, "", limiter=ka.Limiter(1, name="one")), int)
    assert_type(await ka.offload_map(length, words, limit=2), list[int])
    assert_type(await ka.offload_map(length, words, limit=2, on_error=none), list[int | None])
    assert_type(await ka.offload_map(length, aiter_of_str(), limit=2, to=pool), list[int])
    ka.Limiter(5)  # type: ignore[call-arg]  # pyright: ignore  # errors call it by its name
    ka.Limiter(5, "five")  # type: ignore[call-arg]  # pyright: ignore
    await ka.offload(length, 1)  # type: ignore[arg-type]  # pyright: ignore
    await ka.offload(length, "", to="moon")  # type: ignore[arg-type]  # pyright: ignore
