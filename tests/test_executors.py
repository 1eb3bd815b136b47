"""The same line on a thread pool, a process pool, loky, and a cluster of dask's.

The executors are made once for the module: what is slow about them is their start.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

import kingdom_async as ka
from support import elsewhere
from support.threads import Held

KINDS = ["threads", "processes", "loky", "dask"]


def _processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def executors() -> Iterator[Callable[[str], Executor]]:
    """A function that gives the executor of a kind, made when it is first asked for."""
    made: dict[str, Executor] = {}
    clean_up: list[Callable[[], object]] = []

    def get(kind: str) -> Executor:
        if kind not in made:
            made[kind] = make(kind)
        return made[kind]

    def make(kind: str) -> Executor:
        if kind == "threads":
            executor: Executor = ThreadPoolExecutor(2)
        elif kind == "processes":
            executor = _processes()
        elif kind == "loky":
            from loky import get_reusable_executor

            # A worker that has had nothing to do for ten seconds ends, with a warning if it
            # was about to be asked; here that is an error, and breaks the executor.
            executor = get_reusable_executor(max_workers=2, timeout=600)
        else:
            from distributed import Client, LocalCluster

            cluster = LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
            )
            client = Client(cluster)
            clean_up.extend((client.close, cluster.close))
            return client.get_executor()  # type: ignore[no-any-return]
        clean_up.append(executor.shutdown)
        return executor

    yield get
    for close in clean_up:
        close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def executor(kind: str, executors: Callable[[str], Executor]) -> Executor:
    return executors(kind)


async def test_offload(executor: Executor, kind: str) -> None:
    """Arguments go there, the result comes back, and context variables stay here."""
    elsewhere.variable.set("caller's")
    assert await ka.offload(elsewhere.add, 2, 3, to=executor) == 5
    process, value = await ka.offload(elsewhere.process_and_variable, to=executor)
    assert value == "unset"
    assert (process != os.getpid()) is (kind in ("processes", "loky"))


async def test_errors_come_back(executor: Executor) -> None:
    """What the function raises is raised, as its own type."""
    with pytest.raises(LookupError) as caught:
        await ka.offload(elsewhere.fail, "no such row", to=executor)
    assert type(caught.value) is LookupError
    assert str(caught.value) == "no such row"


async def test_stop_iteration_gets_a_sentence(executor: Executor) -> None:
    """Wherever it was raised."""
    sentence = (
        "offload(stop): it raised StopIteration, which cannot pass through an await; catch it "
        "in the function, or give next() a default"
    )
    with pytest.raises(ka.OffloadError, match=f"^{re.escape(sentence)}$"):
        await ka.offload(elsewhere.stop, to=executor)


@pytest.mark.parametrize("chunksize", [None, 7])
@pytest.mark.parametrize("source", ["list", "generator", "async generator"])
async def test_offload_map(executor: Executor, source: str, chunksize: int | None) -> None:
    """Results in order, whatever the source and the size of the chunks."""

    async def numbers() -> Any:
        for number in range(30, 70):
            yield number

    items: Any = numbers()
    if source == "generator":
        items = (number for number in range(30, 70))
    elif source == "list":
        items = list(range(30, 70))
    results = await ka.offload_map(
        elsewhere.half, items, to=executor, limit=2, chunksize=chunksize
    )
    assert results == [number // 2 for number in range(30, 70)]
    if source == "async generator":
        await items.aclose()


async def test_offload_map_names_the_item_that_failed(executor: Executor) -> None:
    """The error is the function's own, with a note."""
    with pytest.raises(ValueError, match="bad luck") as caught:
        await ka.offload_map(elsewhere.half, range(12, 16), to=executor, limit=2)
    assert "while mapping item 1: 13" in caught.value.__notes__


async def test_offload_map_puts_the_value_of_on_error_in_place(
    executor: Executor, kind: str
) -> None:
    """Errors that cannot be pickled take their place as well, and the items around them."""
    results = await ka.offload_map(
        elsewhere.half,
        range(12, 25),
        to=executor,
        limit=2,
        chunksize=4,
        on_error=lambda item, error: (item, type(error).__name__),
    )
    failed = {result for result in results if isinstance(result, tuple)}
    unpicklable = "Unpicklable" if kind == "threads" else "OffloadError"
    # dask (by way of tblib) has taught pickle to bring such errors back.
    one_way = "OneWay" if kind in ("threads", "dask") else "OffloadError"
    assert failed == {
        (13, "ValueError"),
        (17, "OffloadError"),
        (19, unpicklable),
        (23, one_way),
    }
    assert [result for result in results if isinstance(result, int)] == [
        number // 2 for number in range(12, 25) if number not in (13, 17, 19, 23)
    ]


@pytest.mark.parametrize("kind", ["processes", "loky"])
async def test_a_call_that_cannot_be_pickled_gets_a_sentence(executor: Executor) -> None:
    """The executor's error is explained, and stands behind the explanation."""
    with pytest.raises(ka.OffloadError) as caught:
        await ka.offload(elsewhere.add, 1, elsewhere.lock(), to=executor)
    assert re.fullmatch(
        r"offload\(add\): the call or its outcome cannot be pickled \([\s\S]*\); give a "
        "function from the top level of a module, and plain data",
        str(caught.value),
    )
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("kind", ["dask"])
async def test_a_call_that_dask_cannot_serialize_gets_a_sentence(executor: Executor) -> None:
    """dask refuses it in submit(), and logs a traceback of its own."""
    with pytest.raises(
        ka.OffloadError, match=r"^offload\(add\): the call or its outcome cannot"
    ):
        await ka.offload(elsewhere.add, 1, elsewhere.lock(), to=executor)


@pytest.mark.parametrize("kind", ["processes", "loky"])
async def test_a_result_that_cannot_be_pickled_gets_a_sentence(executor: Executor) -> None:
    """The same on the way back."""
    with pytest.raises(
        ka.OffloadError, match=r"^offload\(lock\): the call or its outcome cannot"
    ):
        await ka.offload(elsewhere.lock, to=executor)


@pytest.mark.parametrize("kind", ["processes", "loky"])
async def test_an_error_of_the_function_that_tells_of_pickling(executor: Executor) -> None:
    """It comes back as it is: nothing was wrong with the way there and back."""
    with pytest.raises(LookupError, match="cannot pickle the cucumber"):
        await ka.offload(elsewhere.fail, "cannot pickle the cucumber", to=executor)


async def test_a_broken_pool_gets_a_sentence() -> None:
    """A worker that dies breaks a process pool for good; the error says what may be wrong."""
    sentence = (
        "offload(die): the executor broke: a worker died, or the call or its outcome cannot be "
        "pickled; give a function from the top level of a module, and plain data"
    )
    executor = _processes()
    with pytest.raises(ka.OffloadError, match=f"^{re.escape(sentence)}$"):
        await ka.offload(elsewhere.die, to=executor)
    executor.shutdown()


async def test_an_executor_that_is_shut_down_says_so() -> None:
    """A pending call that the executor cancels fails; one that comes later is refused."""
    executor = ThreadPoolExecutor(1)
    sentence = "offload(add): the executor cancelled the call; it was shut down meanwhile"
    held = Held()
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(lambda: ka.offload(held, to=executor))
        await held.until_started()

        async def pending() -> None:
            with pytest.raises(ka.OffloadError, match=f"^{re.escape(sentence)}$"):
                await ka.offload(elsewhere.add, 1, 2, to=executor)

        group.start_soon(pending)
        await ka.checkpoint()
        await ka.checkpoint()
        executor.shutdown(wait=False, cancel_futures=True)
        held.let_go()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        await ka.offload(elsewhere.add, 1, 2, to=executor)


class AtOnce(Executor):
    """The least an executor can be: it runs the call in submit()."""

    def submit(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(func(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


async def test_any_executor_will_do() -> None:
    """One that has the result before anybody waits for it, too."""
    assert await ka.offload(elsewhere.add, 1, 2, to=AtOnce()) == 3
    assert await ka.offload_map(elsewhere.half, range(10), to=AtOnce(), limit=3) == [
        number // 2 for number in range(10)
    ]
