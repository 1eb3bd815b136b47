"""``python -m tests.load``: each load on each backend, in a process of its own."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import anyio

import kingdom_async as ka
from kingdom_async._backend import installed_backends

from . import bulk, groups, offloads, queues


def _first() -> ka.TaskGroup:
    return ka.TaskGroup(errors="first")


#: What is run, and its size.
LOADS: dict[str, tuple[Callable[[int], Awaitable[str]], int]] = {
    "tasks: anyio's own": (lambda n: groups.tasks(n, anyio.create_task_group, False), 100_000),
    "tasks: group": (lambda n: groups.tasks(n, ka.TaskGroup, False), 100_000),
    "tasks: group, one fails": (lambda n: groups.tasks(n, ka.TaskGroup, True), 100_000),
    "tasks: first": (lambda n: groups.tasks(n, _first, False), 100_000),
    "tasks: first, one fails": (lambda n: groups.tasks(n, _first, True), 100_000),
    "queue of 10": (lambda n: queues.items(n, ka.Queue(10)), 1_000_000),
    "queue of 1000": (lambda n: queues.items(n, ka.Queue(1000)), 1_000_000),
    "queue in batches": (lambda n: queues.items(n, ka.Queue(100), 50), 1_000_000),
    "amap": (bulk.amap, 1_000_000),
    "imap": (bulk.imap, 1_000_000),
    "offload": (lambda n: offloads.offloads(n, False), 10_000),
    "offload, abandoned": (lambda n: offloads.offloads(n, True), 10_000),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--backend", action="append", choices=installed_backends())
    parser.add_argument("--only", action="append", help="loads whose name begins so")
    parser.add_argument("--share", type=float, default=1.0, help="of each load's size")
    parser.add_argument("--here", choices=list(LOADS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        return _here(options.here, options.backend[0], options.share)
    failed = 0
    for backend in options.backend or installed_backends():
        for name in LOADS:
            if options.only and not name.startswith(tuple(options.only)):
                continue
            command = ["--here", name, "--backend", backend, "--share", str(options.share)]
            process = subprocess.run([sys.executable, "-m", "tests.load", *command])
            if process.returncode:
                failed += 1
                print(f"{backend:15}{name:25}FAILED, status {process.returncode}", flush=True)
    return 1 if failed else 0


def _here(name: str, backend: str, share: float) -> int:
    load, size = LOADS[name]
    before = _resident()
    begun = time.monotonic()
    try:
        figures = ka.run(load, max(1, int(size * share)), backend=backend)
    except AssertionError as error:
        print(f"{backend:15}{name:25}FAILED: {error}", flush=True)
        return 1
    seconds = time.monotonic() - begun
    left = _threads_left()
    print(
        f"{backend:15}{name:25}{figures}; {_resident() - before:.0f} MiB resident, "
        f"{seconds:.1f} s" + (f"; FAILED: threads left: {left}" if left else ""),
        flush=True,
    )
    return 1 if left else 0


def _resident() -> float:
    """The most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _threads_left() -> list[str]:
    """Threads that do not end; trio keeps an idle one for ten seconds."""
    last = time.monotonic() + 15
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(max(0.0, last - time.monotonic()))
    return [t.name for t in threading.enumerate() if t is not threading.current_thread()]


if __name__ == "__main__":
    sys.exit(main())
