"""A queue as anyio's streams: their methods, and their exceptions."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.lowlevel import checkpoint
from anyio.streams.stapled import StapledObjectStream

import kingdom_async as ka


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(6):
        await checkpoint()


async def test_they_are_anyios_streams() -> None:
    """Code that checks the type of what it is given is content."""
    queue = ka.Queue[int](1)
    assert isinstance(queue.send_stream, ObjectSendStream)
    assert isinstance(queue.receive_stream, ObjectReceiveStream)


async def test_what_is_sent_is_received() -> None:
    """A view puts into the queue and takes from it; mixing both sides is fine."""
    queue = ka.Queue[int](5)
    await queue.send_stream.send(1)
    await queue.put(2)
    assert await queue.receive_stream.receive() == 1
    assert await queue.get() == 2


async def test_iterating_over_a_receive_stream() -> None:
    """Iteration gives what was sent and ends when the sending end is closed."""
    queue = ka.Queue[int](1)

    async def send() -> None:
        async with queue.send_stream as stream:
            for number in range(10):
                await stream.send(number)

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        assert [number async for number in queue.receive_stream] == list(range(10))
    with pytest.raises(anyio.EndOfStream):
        await queue.receive_stream.receive()


async def test_stapled_into_one_stream() -> None:
    """The views go where anyio's own streams go."""
    queue = ka.Queue[str](1)
    stream = StapledObjectStream(queue.send_stream, queue.receive_stream)
    await stream.send("there and back")
    assert await stream.receive() == "there and back"
    await stream.aclose()


async def test_sending_on_a_closed_send_stream() -> None:
    """ClosedResourceError, with a sentence; on another view of the queue too."""
    queue = ka.Queue[int](1)
    stream, other = queue.send_stream, queue.send_stream
    await stream.aclose()
    sentence = "send() on a send stream that is closed"
    with pytest.raises(anyio.ClosedResourceError, match=f"^{re.escape(sentence)}$"):
        await stream.send(1)
    with pytest.raises(anyio.ClosedResourceError):
        await other.send(1)
    await stream.aclose()  # twice is fine


async def test_receiving_from_a_closed_receive_stream() -> None:
    """ClosedResourceError from the view that was closed, the end from any other."""
    queue = ka.Queue[int](1)
    stream, other = queue.receive_stream, queue.receive_stream
    await stream.aclose()
    sentence = "receive() on a receive stream that is closed"
    with pytest.raises(anyio.ClosedResourceError, match=f"^{re.escape(sentence)}$"):
        await stream.receive()
    with pytest.raises(anyio.EndOfStream):
        await other.receive()
    await stream.aclose()


async def test_sending_after_the_receiver_has_closed() -> None:
    """BrokenResourceError: nobody will ever read it."""
    queue = ka.Queue[int](1)
    await queue.receive_stream.aclose()
    sentence = "the receiving end of the queue is closed"
    with pytest.raises(anyio.BrokenResourceError, match=f"^{re.escape(sentence)}$"):
        await queue.send_stream.send(1)


async def test_the_receiver_closes_while_one_sends(caplog: pytest.LogCaptureFixture) -> None:
    """A send that waits is told BrokenResourceError; what was there is logged and counted."""
    queue = ka.Queue[int](1, name="pipe")
    await queue.put(1)

    async def send() -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await queue.send_stream.send(2)

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await settle()
        await queue.receive_stream.aclose()
    assert [each.getMessage() for each in caplog.records] == [
        "Queue 'pipe': 1 item was put and never taken"
    ]
    assert queue.statistics().abandoned == 1


async def test_a_view_closed_while_one_waits_on_it() -> None:
    """ClosedResourceError, as in anyio: it is not the end of what was sent."""
    ours = ka.Queue[int](1)
    theirs = anyio.create_memory_object_stream[int](1)

    async def receive(stream: Any) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()

    with theirs[0], theirs[1]:
        for stream in (ours.receive_stream, theirs[1]):
            async with anyio.create_task_group() as group:
                group.start_soon(receive, stream)
                await settle()
                await stream.aclose()


async def test_the_sender_closes_while_one_receives() -> None:
    """A receive that waits gets the end."""
    queue = ka.Queue[int](1)

    async def receive() -> None:
        with pytest.raises(anyio.EndOfStream):
            await queue.receive_stream.receive()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await settle()
        await queue.send_stream.aclose()


async def test_what_was_sent_before_the_close_is_received() -> None:
    """Closing the sending end keeps what is buffered."""
    queue = ka.Queue[int](5)
    async with queue.send_stream as stream:
        await stream.send(1)
        await stream.send(2)
    assert [number async for number in queue.receive_stream] == [1, 2]


@pytest.mark.parametrize("kind", [ValueError, ka.QueueClosed, anyio.BrokenResourceError])
async def test_an_error_given_to_close_comes_through(kind: type[Exception]) -> None:
    """close(error) raises that same object in who receives, also through a view."""
    queue = ka.Queue[int](5)
    broken = kind("broken")
    await queue.put(1)
    queue.close(broken)
    assert await queue.receive_stream.receive() == 1
    with pytest.raises(kind) as info:
        await queue.receive_stream.receive()
    assert info.value is broken
    with pytest.raises(anyio.ClosedResourceError):
        await queue.send_stream.send(1)


@pytest.mark.parametrize("end", ["send_stream", "receive_stream"])
async def test_closing_while_cancelled_still_closes(end: str) -> None:
    """aclose() is a checkpoint, and has closed before it is one."""
    queue = ka.Queue[int](1)
    stream = getattr(queue, end)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()
    assert scope.cancelled_caught
    assert queue.statistics().closed


async def test_a_cancelled_send_has_not_sent() -> None:
    """The views keep the queue's promise."""
    queue = ka.Queue[int](1)
    await queue.send_stream.send(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await queue.send_stream.send(2)
    assert scope.cancelled_caught
    assert await queue.receive_stream.receive() == 1
    with anyio.CancelScope() as scope:
        scope.cancel()
        await queue.receive_stream.receive()
    assert scope.cancelled_caught
    assert queue.drain() == []


async def test_a_view_left_open_says_nothing() -> None:
    """Views hold nothing of their own, so that one left unclosed is no leak (ground 10, 24)."""
    queue = ka.Queue[int](1)
    sending, receiving = queue.send_stream, queue.receive_stream
    await sending.send(1)
    assert await receiving.receive() == 1
    del sending, receiving
    await queue.put(2)  # nor has it closed anything
    assert await queue.get() == 2
