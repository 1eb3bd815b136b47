"""trio's memory channels: an end that was not closed is found, where somebody may miss it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from kingdom_async.testing.faults import cancel_everywhere
from kingdom_async.testing.leaks import no_leaks
from kingdom_async.testing.leftovers.left import LeakError


async def keep_both(kept: list[object]) -> None:
    kept.append(trio.open_memory_channel[int](1))


async def drop_both(kept: list[object]) -> None:
    trio.open_memory_channel[int](1)


async def keep_a_clone(kept: list[object]) -> None:
    send, receive = trio.open_memory_channel[int](1)
    kept += [send.clone(), receive]
    send.close()


@pytest.mark.parametrize("leave", [keep_both, drop_both, keep_a_clone])
def test_both_ends_are_found(leave: Callable[[list[object]], Awaitable[object]]) -> None:
    """With the line that made each, whether it is kept or was dropped."""
    kept: list[object] = []

    async def main() -> None:
        async with no_leaks():
            await leave(kept)

    with pytest.raises(LeakError) as caught:
        trio.run(main)
    names = {(leak.kind, leak.name) for leak in caught.value.leaks}
    assert names == {
        ("stream", "memory send channel"),
        ("stream", "memory receive channel"),
    }
    assert all("made at test_channels_left.py:" in leak.place for leak in caught.value.leaks)


async def produce(send: trio.MemorySendChannel[int]) -> None:
    async with send:
        for number in range(3):
            await send.send(number)


async def consume(receive: trio.MemoryReceiveChannel[int]) -> None:
    async for _ in receive:
        pass


async def consume_and_close(receive: trio.MemoryReceiveChannel[int]) -> None:
    async with receive:
        await consume(receive)


@pytest.mark.parametrize("consumer", [consume, consume_and_close])
def test_where_nobody_is_at_the_other_end_none_is_missed(
    consumer: Callable[[trio.MemoryReceiveChannel[int]], Awaitable[object]],
) -> None:
    """As in the examples of trio's documentation; wherever it is cancelled."""

    async def body() -> None:
        send, receive = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce, send)
            nursery.start_soon(consumer, receive)
            del send, receive

    cancel_everywhere(body, backend="trio").raise_if_failed()


def test_one_that_only_a_cancellation_leaves_is_found() -> None:
    """Closed at the end only."""

    async def body() -> None:
        send, receive = trio.open_memory_channel[int](1)
        await trio.lowlevel.checkpoint()
        send.close()
        receive.close()

    report = cancel_everywhere(body, backend="trio")
    assert [failure.step for failure in report.failures] == [1, 1]
    assert "left behind: stream memory send channel" in str(report)
