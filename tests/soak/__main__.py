"""The command line: ``python -m tests.soak --help``.

Rule: it says how far it is, and its last line has the figures; a failure is one line that runs
that seed alone, and what was wrong below it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from kingdom_async._backend import BACKENDS, installed_backends

from .checks import CHECKS, EVERY, Check
from .made_up import made, text

#: Seeds at once, between two lines of progress.
_CHUNK = 500


def main() -> int:
    options = _options()
    begun, seeds, failures = time.perf_counter(), 0, 0
    for check in CHECKS:
        if options.only not in (None, check.name):
            continue
        for backend in options.backend if check.on_each_backend else [EVERY]:
            number = check.full if options.seeds is None else options.seeds
            failures += _run(check, backend, range(options.start, options.start + number))
            seeds += number
    took = time.perf_counter() - begun
    print(f"soak: {seeds} seeds, {failures} failed, {took:.0f} s")
    return 1 if failures else 0


def _run(check: Check, backend: str, seeds: range) -> int:
    """One check on one backend; how many seeds have failed."""
    begun, cpu, failures = time.perf_counter(), time.process_time(), 0
    tally: Counter[str] = Counter()
    for first in range(seeds.start, seeds.stop, _CHUNK):
        chunk = range(first, min(first + _CHUNK, seeds.stop))
        for found in check.run(chunk, backend, tally):
            failures += 1
            on = f" --backend {backend}" if check.on_each_backend else ""
            print(
                f"\nFAILED, again with: python -m tests.soak --only {check.name}{on} "
                f"--start {found.seed} --seeds 1\n{found.what}"
            )
            if len(seeds) == 1 and not check.on_each_backend:
                print(text(made(found.seed)))
        if sys.stderr.isatty():
            print(
                f"\r{check.name}, {backend}: {chunk.stop - seeds.start}",
                end="",
                file=sys.stderr,
            )
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    figures = ", ".join(f"{number} {name}" for name, number in sorted(tally.items()))
    end = "\r" if sys.stderr.isatty() else ""
    print(
        f"{end}{check.name}, {backend}: {len(seeds)} seeds, {failures} failed, {took:.1f} s "
        f"({1000 * cpu / len(seeds):.2f} ms of CPU a seed); {figures}",
        flush=True,
    )
    return failures


def _options() -> argparse.Namespace:
    names = [check.name for check in CHECKS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Random programs under random schedules and cancellations.",
        epilog="\n".join(f"{check.name:10} {check.about}" for check in CHECKS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    there = [name for name in BACKENDS if name in installed_backends()]
    parser.add_argument("--seeds", type=int, help="how many (default: as in a full run)")
    parser.add_argument("--start", type=int, default=0, metavar="SEED", help="the first one")
    parser.add_argument("--only", choices=names, help="one check (default: all)")
    parser.add_argument(
        "--backend", choices=there, action="append", help="one of them (default: each)"
    )
    options = parser.parse_args()
    options.backend = options.backend or there
    return options


if __name__ == "__main__":
    raise SystemExit(main())
