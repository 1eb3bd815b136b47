"""``python -m tests.signals --moments 200``: each a process of its own, struck by a signal."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from kingdom_async._backend import installed_backends

from .moments import Moment, Outcome, strike


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.signals", description=__doc__)
    parser.add_argument("--moments", type=int, default=200, help="for each backend and signal")
    parser.add_argument("--backend", action="append", choices=installed_backends())
    parser.add_argument("--signal", action="append", choices=["SIGTERM", "SIGINT"])
    parser.add_argument("--seed", type=int, help="that one moment only")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.moments)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    failures = 0
    for backend in options.backend or installed_backends():
        for name in options.signal or ["SIGTERM", "SIGINT"]:
            begun = time.monotonic()
            moments = [Moment(seed, backend, name) for seed in seeds]
            with ThreadPoolExecutor(options.jobs) as threads:
                outcomes = list(threads.map(strike, moments))
            print(f"{_summary(outcomes)}; {time.monotonic() - begun:.0f} s", flush=True)
            for outcome in outcomes:
                if outcome.wrong:
                    failures += 1
                    print(f"FAILED {outcome.text()}", flush=True)
    return 1 if failures else 0


def _summary(outcomes: list[Outcome]) -> str:
    """One line for the moments of one backend and signal."""
    moment = outcomes[0].moment
    count = {
        word: sum(len(outcome.items(word)) for outcome in outcomes)
        for word in ("+", "-", "left")
    }
    phases = Counter(outcome.moment.phase for outcome in outcomes)
    statuses = Counter(outcome.status for outcome in outcomes)
    failed = sum(bool(outcome.wrong) for outcome in outcomes)
    return (
        f"{moment.backend:15}{moment.signal:8}{len(outcomes)} moments, {failed} failed "
        f"({', '.join(f'{n} in {phase}' for phase, n in phases.items())}); "
        f"status {', '.join(f'{status}: {n}' for status, n in statuses.most_common())}; "
        f"{count['+']} accepted = {count['-']} done + {count['left']} left; "
        f"slowest end {max(outcome.seconds for outcome in outcomes):.2f} s"
    )


sys.exit(main())
