"""A busy program that says what it accepts, what it has done, and what it leaves over.

Rule: whoever holds an item answers for it. A producer whose put is cut off names its item, a
consumer names what it was working on, and the end drains the queues. So what the library loses
between them is named by nobody.

Each line goes out by one ``os.write``, which no signal can cut in two:

    ready           items are accepted from here on, and SIGTERM stops the program in good order
    + item          accepted
    - item          done
    left item       accepted, and not done
    flushed         shielded cleanup has run to its end
    end             nothing more is said inside the loop
    exit status     what the process is about to end with
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from random import Random

import kingdom_async as ka

PRODUCERS = 3
ITEMS = 60  # each producer's; `moments` knows how many that are in all
THREADS = ka.Limiter(4, name="threads")


def say(*words: str) -> None:
    os.write(1, " ".join((*words, "\n")).encode())


class Ledger:
    """What is accepted and not settled, for the one case in which nobody can answer: a second
    Ctrl-C. It may name an item that is done as well; never none."""

    def __init__(self) -> None:
        self.open: set[str] = set()

    def accept(self, item: str) -> None:
        self.open.add(item)
        say("+", item)

    def done(self, item: str) -> None:
        say("-", item)
        self.open.discard(item)

    def leave(self, items: Iterable[str]) -> None:
        for item in items:
            if item in self.open:  # what was done before it was cut off is not left
                say("left", item)
                self.open.discard(item)


LEDGER = Ledger()


def work(item: str) -> str:
    """What threads and processes do."""
    time.sleep(len(item) % 3 / 1000)
    return item


class Program:
    """One run, drawn from its seed."""

    def __init__(self, seed: int, bug: str | None) -> None:
        self.draw = Random(seed)
        self.bug = bug
        self.in_processes = self.draw.random() < 0.25
        self.grace = self.draw.choice([0.0, 0.005, 5.0])  # for what is buffered, on SIGTERM
        self.raw = ka.Queue[str](self.draw.choice([1, 5, 50]), name="raw")
        self.cooked = ka.Queue[str](self.draw.choice([1, 5]), name="cooked")

    # --- the stages ------------------------------------------------------------------

    async def produce(self, name: str) -> None:
        for number in range(ITEMS):
            item = f"{name}{number}"
            LEDGER.accept(item)
            try:
                await self.raw.put(item)
            except BaseException:
                if self.bug != "forgets":
                    LEDGER.leave([item])
                raise
            if number % 7 == 0:
                await ka.sleep(0.001)

    async def cook(self) -> None:
        """One by one, in threads or processes, and on to the next queue."""
        async for item in self.raw:
            try:
                if self.in_processes and item.endswith("3"):
                    cooked = await ka.offload(work, item, to="process")
                else:
                    cooked = await ka.offload(work, item, limiter=THREADS)
                await self.cooked.put(cooked)
            except BaseException:
                LEDGER.leave([item])
                raise

    async def cook_batches(self) -> None:
        """Many at a time, and done at once."""
        async for batch in self.raw.batches(5, linger=0.002):
            try:
                await ka.amap(self.finish, batch, limit=2)
            except BaseException:
                LEDGER.leave(batch)
                raise

    async def serve(self) -> None:
        """What is cooked, with results that somebody consumes."""
        async with ka.imap(self.finish, self.watched(self.cooked), limit=3) as results:
            async for _ in results:
                pass

    async def watched(self, queue: ka.Queue[str]) -> AsyncIterator[str]:
        """The items of *queue*, each of which is in somebody's hands or named."""
        async for item in queue:
            yield item

    async def finish(self, item: str) -> None:
        try:
            await ka.sleep(self.draw.random() / 1000)
            if len(item) % 2:
                await ka.offload(work, item, limiter=THREADS)
            LEDGER.done(item)
        except BaseException:
            LEDGER.leave([item])
            raise

    # --- the whole -------------------------------------------------------------------

    async def main(self) -> None:
        with ka.open_signal_receiver(signal.SIGTERM) as signals:
            try:
                await self.accept_and_work(signals)
            finally:
                try:
                    await self.flush()
                finally:  # a Ctrl-C goes through the shield of the main task
                    if self.bug == "silent":
                        self.raw.drain()
                    LEDGER.leave([*self.raw.drain(), *self.cooked.drain()])
                    say("end")

    async def flush(self) -> None:
        with ka.shielded(2):
            await ka.sleep(0.001)
            await ka.offload(time.sleep, 0.001)
            say("flushed")
            if self.bug == "hangs":
                await ka.offload(time.sleep, 60)

    async def accept_and_work(self, signals: AsyncIterator[int]) -> None:
        async with ka.TaskGroup(errors="first") as group:
            producing = ka.CancelScope()
            group.start_soon(self.stop_on_signal, signals, producing, group.cancel, daemon=True)
            group.start_soon(self.serve)
            group.start_soon(self.cook_all)
            say("ready")
            with self.raw.producing(), producing:
                async with ka.TaskGroup() as producers:
                    for name in "abc"[:PRODUCERS]:
                        producers.start_soon(self.produce, name)

    async def cook_all(self) -> None:
        with self.cooked.producing():
            async with ka.TaskGroup() as cooks:
                cooks.start_soon(self.cook)
                cooks.start_soon(self.cook)
                cooks.start_soon(self.cook_batches)

    async def stop_on_signal(
        self,
        signals: AsyncIterator[int],
        producing: ka.CancelScope,
        cancel: Callable[[], None],
    ) -> None:
        async for _ in signals:
            producing.cancel()
            await ka.sleep(self.grace)
            cancel()


def run(seed: int, bug: str | None, second: bool) -> int:
    """Run it; what a second Ctrl-C makes it leave over is named here."""
    status = 0
    try:
        try:
            ka.run(Program(seed, bug).main)
        except KeyboardInterrupt:
            status = 130
    except KeyboardInterrupt:  # the second one, just after the first had come out
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if second:
        LEDGER.leave(sorted(LEDGER.open))
    if bug == "wrong-status":
        status = 0
    say("exit", str(status))
    return status


if __name__ == "__main__":
    seed, bug, second = int(sys.argv[1]), sys.argv[2] or None, sys.argv[3] == "second"
    sys.exit(run(seed, bug, second))
