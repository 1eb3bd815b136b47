"""Which tests are run against a mutant: those that reach its lines, the quick ones first.

Rule: seen by running them, on each backend. A line that only an import runs belongs to every
test.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .trials import Copy, Job, Result, Trial

BACKENDS = ("asyncio", "trio", "asyncio+uvloop")

#: The tests of a module's own promises, which are tried first.
NEAR = {
    "_amap": "amap bulk_sources bulk_isolation bulk_cancellation",
    "_arguments": "arguments amap races",
    "_backend": "run environment foreign_loops",
    "_buffer": "queues queue_cancellation queue_ends queue_model",
    "_chunks": "offload_map executors",
    "_crew": "amap bulk_isolation bulk_cancellation bulk_sources imap",
    "_errors": "scopes queues offload",
    "_failures": "failures group_failures gather races groups",
    "_gather": "gather",
    "_given": "given gather races",
    "_groups": "groups group_failures gather native_cancellation_groups",
    "_imap": "imap bulk_sources bulk_cancellation bulk_isolation",
    "_interrupts": "interrupts run",
    "_limits": "limits offload_limits",
    "_members": "groups group_failures native_cancellation_groups gather",
    "_observe": "run groups",
    "_offload": "offload offload_cancellation offload_limits executors offload_deadlock",
    "_offload_map": "offload_map offload_map_cancellation executors",
    "_outside": "foreign_loops offload run",
    "_pickled": "offload_processes executors odd_errors",
    "_queue_batches": "queue_batches queue_cancellation queue_model",
    "_queue_state": "queues queue_ends",
    "_queue_streams": "queue_streams",
    "_queues": "queues queue_ends queue_model",
    "_races": "races native_cancellation_groups",
    "_run": "run environment interrupts",
    "_scopes": "scopes",
    "_settings": "environment run",
    "_shielded": "scopes",
    "_sources": "bulk_sources imap amap bulk_cancellation",
    "_thread_calls": "offload offload_cancellation offload_limits offload_deadlock offload_map",
    "_trio_clock": "run",
}


#: Much of these runs in programs and workers that tests start, where nobody sees which lines.
IN_PROGRAMS = ("_errors", "_interrupts", "_observe", "_pickled", "_run", "_trio_clock")


def mapped_tests(module: str) -> tuple[str, ...]:
    names = [*NEAR.get(module, "").split(), "public_names"]
    return tuple(f"tests/test_{name}.py" for name in names)


class Choice:
    """What each test reaches, learned once and kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._seen = json.loads(path.read_text())
        self._by_line: dict[str, dict[str, set[str]]] = {}

    def is_known(self) -> bool:
        return set(self._seen) >= set(BACKENDS)

    def learning(self, files: tuple[str, ...]) -> Iterator[Job]:
        """What to run to know."""
        for backend in BACKENDS:
            yield self._lesson(backend, files)

    def _lesson(self, backend: str, files: tuple[str, ...]) -> Job:
        where: list[Path] = []

        def prepare(copy: Copy) -> Trial:
            where.append(copy.path / "reached.json")
            return Trial(files, backend, 900, _any_time, _recorder, ())

        def done(result: Result | None) -> None:
            if result is None or result.outcome != "passed":
                raise SystemExit(f"without a mutant, on {backend}: {result}")
            self._seen[backend] = json.loads(where[0].read_text())
            self._path.write_text(json.dumps(self._seen))

        return prepare, done

    def trial(
        self, backend: str, module: str, lines: range, files: tuple[str, ...]
    ) -> Trial | None:
        """The tests of these files that reach the lines; None if there are none."""
        reaching = self._reaching(backend)
        tests = set().union(*(reaching.get(f"{module}:{line}", ()) for line in lines))
        tests = tests or set(self._seen[backend]["seconds"])  # an import runs them
        if module in IN_PROGRAMS:
            near = mapped_tests(module)
            known = self._seen[backend]["seconds"]
            tests = tests | {test for test in known if test.partition("::")[0] in near}
        tests = {test for test in tests if test.partition("::")[0] in files}
        if not tests:
            return None
        seconds = self._seen[backend]["seconds"]
        ordered = sorted(tests, key=lambda test: seconds[test])
        wanted_files = tuple(sorted({test.partition("::")[0] for test in ordered}))
        return Trial(
            wanted_files,
            backend,
            limit=60 + 10 * sum(seconds[test] for test in ordered),
            limit_of=lambda test: 12 + 15 * seconds.get(test, 0),
            plugins=partial(_chooser, ordered, set(seconds)),
        )

    def _reaching(self, backend: str) -> dict[str, set[str]]:
        if backend not in self._by_line:
            found: dict[str, set[str]] = defaultdict(set)
            for test, lines in self._seen[backend]["reached"].items():
                for line in lines:
                    found[line].add(test)
            self._by_line[backend] = found
        return self._by_line[backend]


def _any_time(test: str) -> float:
    return 900


def _recorder() -> list[object]:
    from .reached import Recorder

    return [Recorder()]


def _chooser(wanted: list[str], known: set[str]) -> list[object]:
    from .reached import Chooser

    return [Chooser(wanted, known)]
