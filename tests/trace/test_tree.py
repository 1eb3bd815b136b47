"""The living program as a tree, from wherever it is asked for."""

from __future__ import annotations

import re
import sys
import threading
import time
import types
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any, Literal
from weakref import ref

import anyio
import anyio.lowlevel
import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import here
from kingdom_async.trace.stacks import Line, line_of
from kingdom_async.trace.views.live import LiveTask
from support.backends import REAL, chosen
from support.threads import Held
from support.turns import settle

Level = Literal["life", "steps"]
levels = pytest.mark.parametrize("level", ["life", "steps"])
backends = pytest.mark.parametrize("backend", chosen(REAL))


#: What draws tasks; `trace.tree` is the function, not the file.
TREE = sys.modules["kingdom_async.trace.views.tree"]
ROWS = TREE._rows


def drawn() -> list[str]:
    """The tree without what differs from run to run: times, and numbers of lines."""
    text = trace.tree()
    text = re.sub(r" · busy .*? steps?", "", text)
    text = re.sub(r"\d+\.\d s", "0.0 s", text.replace("waiting for 0.0 s", "waiting"))
    return re.sub(r"test_tree\.py:\d+", "test_tree.py:1", text).splitlines()[1:]


def below(lines: list[str], name: str) -> list[str]:
    """The lines from the one of task *name* on, as far left as that one stands."""
    at = next(index for index, line in enumerate(lines) if name in line)
    left = lines[at].index(name)
    found = [lines[at][left:]]
    for line in lines[at + 1 :]:
        if line[:left].strip("│ ") or len(line) <= left:
            break
        found.append(line[left:])
    return found


@levels
async def test_groups_and_what_each_task_waits_for(level: Level) -> None:
    """Tasks stand in their groups, in those of their hosts, each with file, line and source."""
    lines: list[str] = []
    queue: ka.Queue[int] = ka.Queue(1)

    async def consume() -> None:
        await queue.get()

    async def host() -> None:
        async with ka.TaskGroup() as inner:
            inner.start_soon(consume, name="consumer")
            inner.start_soon(wait, name="waiter")
            with trace.span("hosting"):
                await settle()
                lines.extend(drawn())
            inner.cancel()

    async def wait() -> None:
        await anyio.sleep_forever()

    with trace.recording(level):
        async with ka.TaskGroup() as group:
            group.start_soon(host, name="host")
    here = "test_tree.py:1 in"
    assert below(lines, "host · ") == [
        f"host · running · 0.0 s old · {here} drawn: text = trace.tree()",
        "├─ hosting · since 0.0 s",
        f"└─ TaskGroup at {here} host",
        f"   ├─ consumer · waiting · 0.0 s old · {here} consume: await queue.get()",
        f"   └─ waiter · waiting · 0.0 s old · {here} wait: await anyio.sleep_forever()",
    ]
    assert any(f"TaskGroup at {here} test_groups" in line for line in lines)


@levels
async def test_items_in_hand(level: Level) -> None:
    """A worker of a bulk call is shown with the item that it serves."""
    lines: list[str] = []

    async def serve(item: str) -> None:
        await settle()
        lines.extend(drawn())

    async def main() -> None:
        await ka.amap(serve, ["apple"], limit=1)

    with trace.recording(level):
        async with ka.TaskGroup() as group:
            group.start_soon(main, name="main")
    (worker,) = [line for line in lines if "· item " in line]
    assert "amap(" in worker
    assert "serve)[0] · item 'apple' · running" in worker
    assert any("amap at test_tree.py:1 in main" in line for line in lines)


@levels
async def test_calls_that_run_elsewhere(level: Level) -> None:
    """A call in a thread is shown below the task that waits for it."""
    held = Held()

    async def call() -> None:
        await ka.offload(held)

    with trace.recording(level):
        async with ka.TaskGroup() as group:
            group.start_soon(call, name="caller")
            await held.until_started()
            lines = below(drawn(), "caller · ")
            held.let_go()
    assert lines == [
        "caller · waiting · 0.0 s old · test_tree.py:1 in call: await ka.offload(held)",
        "└─ offload(Held) · since 0.0 s",
    ]


async def test_a_call_that_waits_for_a_token() -> None:
    """What it waits for is shown as well."""
    limiter = ka.Limiter(1, name="database")
    measure = partial(ka.offload, len, "", limiter=limiter)

    async def call() -> None:
        await measure()

    with trace.recording():
        async with ka.TaskGroup() as group, limiter:
            group.start_soon(call, name="caller")
            await settle()
            lines = below(drawn(), "caller · ")
    assert lines == [
        "caller · waiting · 0.0 s old · test_tree.py:1 in call: await measure()",
        "├─ offload(len) · since 0.0 s",
        "└─ waits for 'database' · since 0.0 s",
    ]


@levels
async def test_tasks_that_have_not_begun(level: Level) -> None:
    """They are new, and shown with the line that spawned them."""
    with trace.recording(level):
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep_forever, name="first")
            group.start_soon(anyio.sleep_forever, name="second")
            lines = drawn()
            group.cancel()
    for name in ("first", "second"):
        (line,) = [each for each in lines if f" {name} · " in each]
        assert line.endswith(
            f"{name} · new · 0.0 s old · "
            "spawned at test_tree.py:1 in test_tasks_that_have_not_begun"
        )


async def test_without_a_recording() -> None:
    """There are the tasks and their lines, and it says that nothing is recorded."""

    async def wait() -> None:
        await anyio.sleep_forever()

    async with ka.TaskGroup() as group:
        group.start_soon(wait, name="waiter")
        await settle()
        text = trace.tree()
        group.cancel()
    head, *lines = text.splitlines()
    assert head.endswith(" · nothing is recorded")
    assert lines[-1].endswith("record from the start: KINGDOM_ASYNC_TRACE=life)")
    assert any("waiter · waiting · test_tree.py:" in line for line in lines)


async def test_who_is_inside_whose_group_without_a_recording() -> None:
    """It is known from any thread, and nobody is called foreign."""

    async def middle() -> None:
        async with ka.TaskGroup() as inner:
            inner.start_soon(anyio.sleep_forever, name="leaf")

    async with ka.TaskGroup() as group:
        group.start_soon(middle, name="middle")
        await settle()
        loop = here.current_loop()
        shown = await anyio.to_thread.run_sync(lambda: TREE.tree_of(loop))
        group.cancel()
    assert below(shown.splitlines(), "middle")[1].startswith("└─ leaf · waiting · ")
    assert "foreign" not in shown


@levels
async def test_tasks_from_before_the_recording(level: Level) -> None:
    """They are at least as old as the recording, and are not called somebody else's."""
    async with ka.TaskGroup() as group:
        group.start_soon(anyio.sleep_forever, name="early")
        await settle()
        with trace.recording(level):
            assert any(
                "early (from before the recording) · waiting · at least 0.0 s old" in line
                for line in drawn()
            )
        group.cancel()


async def test_for_how_long_a_task_waits() -> None:
    """With steps it is told how long the wait has taken, which is less than the task's age."""

    async def work() -> None:
        end = time.perf_counter() + 0.3
        while time.perf_counter() < end:
            await anyio.lowlevel.checkpoint()
        waits.set()
        await anyio.sleep_forever()

    waits = anyio.Event()
    with trace.recording("steps"):
        async with ka.TaskGroup() as group:
            group.start_soon(work, name="worker")
            await waits.wait()
            await settle()
            (line,) = [line for line in trace.tree().splitlines() if "worker · w" in line[:20]]
            group.cancel()
    found = re.search(r"worker · waiting for (\S+) s · (\S+) s old", line)
    assert found is not None
    assert float(found[1]) < float(found[2])


def test_where_no_loop_runs() -> None:
    """The error says where to call it."""
    with pytest.raises(RuntimeError) as caught:
        trace.tree()
    assert str(caught.value) == (
        "tree() where no event loop runs; call it inside an async function, or while "
        "trace.recording() or trace.start() is on"
    )
    with trace.recording(), pytest.raises(RuntimeError):
        trace.tree()


@levels
@backends
def test_from_another_thread_while_the_loop_is_blocked(backend: str, level: Level) -> None:
    """The tree shows the line that blocks."""
    blocked, go_on = threading.Event(), threading.Event()
    found: list[str] = []

    def look() -> None:
        assert blocked.wait(20)
        found.extend(trace.tree().splitlines())
        go_on.set()

    async def block() -> None:
        blocked.set()
        assert go_on.wait(20)  # it blocks here

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep_forever, name="waiter")
            await settle()
            group.start_soon(block, name="blocker")
            await settle()
            group.cancel()

    thread = threading.Thread(target=look)
    thread.start()
    with trace.recording(level):
        ka.run(main, backend=backend)
    thread.join(20)
    (line,) = [each for each in found if "blocker" in each]
    assert re.search(r"running .* in block: assert go_on.wait\(20\) # it blocks here$", line)
    assert any("waiter · waiting" in each for each in found)


@levels
@backends
def test_from_another_thread_while_the_loop_spins(backend: str, level: Level) -> None:
    """It may be asked at any time while tasks come and go."""
    done = threading.Event()
    found: list[str] = []
    errors: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(30):
                found.append(trace.tree())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    async def child(depth: int) -> None:
        async with ka.TaskGroup() as group:
            for _ in range(3 * (depth > 0)):
                group.start_soon(child, depth - 1)

    async def main() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        while not done.is_set():
            await child(3)
        thread.join(20)

    with trace.recording(level):
        ka.run(main, backend=backend)
    assert not errors
    assert len(found) == 30
    assert all("main" in text for text in found)


# --- trees that cannot be drawn as trees ---------------------------------------------------


def task(ident: int, parent: int, **more: Any) -> LiveTask:
    made = LiveTask(
        ident=ident,
        serial=ident,
        name=f"task {ident}",
        state="waiting",
        age=1.0,
        busy=0.0,
        steps=0,
        parent=parent,
        group=None,
        block=0,
        place=None,
        foreign=False,
        stack=(),
        item=None,
        spans=(),
    )
    return replace(made, **more)


def rows(*tasks: LiveTask) -> list[str]:
    return [line.replace(" · waiting · 1.0 s old", "") for line in ROWS(list(tasks))]


def test_parents_that_are_missing_or_in_a_circle() -> None:
    """Every task is drawn once, whatever is believed of its parents."""
    assert rows(task(1, 99), task(2, 1)) == ["task 1", "└─ task 2"]
    assert rows(task(1, 1)) == ["task 1"]
    assert rows(task(1, 2), task(2, 1), task(3, 2)) == ["task 1", "└─ task 2", "   └─ task 3"]
    assert rows(task(1, 0), task(2, 3), task(3, 2)) == ["task 1", "task 2", "└─ task 3"]


def test_the_lines_of_a_tree() -> None:
    """Branches end where they should, with and without the names of groups."""
    group = {"group": "TaskGroup at a.py:1 in f", "block": 1}
    other = {"group": "gather at a.py:2 in f", "block": 2}
    assert rows(
        task(1, 0),
        task(2, 1, **group),
        task(3, 2),
        task(4, 1, **group),
        task(5, 1, **other),
        task(6, 1),
    ) == [
        "task 1",
        "├─ task 6",
        "├─ TaskGroup at a.py:1 in f",
        "│  ├─ task 2",
        "│  │  └─ task 3",
        "│  └─ task 4",
        "└─ gather at a.py:2 in f",
        "   └─ task 5",
    ]


async def test_a_deep_stack() -> None:
    """The line is the innermost one, however many coroutines are around it."""

    async def deep(left: int) -> None:
        if left:
            await deep(left - 1)
        else:
            await anyio.sleep_forever()  # here

    async with ka.TaskGroup() as group:
        group.start_soon(deep, 250, name="deep")
        await settle()
        shown = drawn()
        group.cancel()
    (line,) = [line for line in shown if line.lstrip("│├└─ ").startswith("deep")]
    assert "# here" in line


async def test_a_look_keeps_no_variable_alive() -> None:
    """What a function lets go of is gone, although somebody looked at its frame."""

    class Page: ...

    pages: list[ref[Page]] = []
    alive: list[bool] = []
    looked = anyio.Event()

    @types.coroutine
    def load() -> Generator[Any, Any, None]:
        page = Page()
        pages.append(ref(page))
        yield from looked.wait().__await__()
        del page
        alive.append(pages[0]() is not None)

    async def task() -> None:
        await load()

    with trace.recording("steps"):
        async with ka.TaskGroup() as group:
            group.start_soon(task)
            await settle()
            trace.tree()
            looked.set()
    assert alive == [False]


async def test_a_name_cannot_steer_a_terminal() -> None:
    """print(trace.tree()) is what the docs say to do; nor can a name end that in an error."""
    async with ka.TaskGroup() as group:
        group.start_soon(anyio.sleep_forever, name="\x1b]0;title\x07\x9b31m\u202e\ud800")
        await settle()
        shown = trace.tree()
        group.cancel()
    assert shown.replace("\n", "").isprintable()
    assert r"\x1b]0;title\x07\x9b31m\u202e\ud800" in shown


def test_a_file_name_cannot_steer_a_terminal() -> None:
    """Nor in lints, which have the line and its source."""
    line = Line("/tmp/\x1b[2Jevil\udc80.py", 3, "f\u202e")
    assert str(line) == r"\x1b[2Jevil\udc80.py:3 in f\u202e"
    place = str(line_of(compile("x = 1", "\x1b.py", "exec"), 0))
    assert place.isprintable()


async def test_a_thousand_tasks_inside_each_other() -> None:
    """Depth is no limit."""
    deep = sys.getrecursionlimit() + 500
    assert len(rows(*(task(each, each - 1) for each in range(1, deep)))) == deep - 1


@backends
def test_odd_names_and_items(backend: str) -> None:
    """A name of many lines stands on one; an item that cannot be shown does not matter."""

    class Item:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    lines: list[str] = []

    async def look(item: object) -> None:
        await settle(3)
        lines.extend(trace.tree().splitlines())

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep_forever, name="a\nb " + "c" * 500)
            await ka.amap(look, [Item()], limit=1)
            group.cancel()

    with trace.recording():
        ka.run(main, backend=backend)
    assert any("item <Item" in line and "running" in line for line in lines)
    (odd,) = [line for line in lines if "a b ccc" in line]
    assert len(odd) < 400
