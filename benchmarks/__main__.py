"""Measure every operation of the speed table, and write it down.

    python -m benchmarks                     the whole table; writes docs/benchmarks.md and .svg
    python -m benchmarks --only queue        the rows whose operation has this in its name
    python -m benchmarks --backend trio      one backend; may be given more than once
    python -m benchmarks --rounds 40         for a noisy machine; the quartiles show the noise
    python -m benchmarks --no-write          the whole table, on the terminal only
    python -m benchmarks --smoke             everything once, quickly; the numbers mean nothing

Run it from the root of a checkout, with ``pip install -e '.[bench]'``. A library that is not
installed is left out with a note. Nothing else should run on the machine meanwhile.

Each operation is a module of `benchmarks.rows`: the question it asks, and the sides it
compares. `measure` says how fair play is kept between them, `one_process` is where they run,
`report` and `plot` make the table and the picture. A speed claim in the documentation has
its row here. No test asserts a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .comparison import Comparison, Row
from .measure import is_installed, rows_of
from .plot import svg
from .report import page, setting, text_head, text_line
from .rows import COMPARISONS

_ROOT = Path(__file__).parent.parent
_DOCS = _ROOT / "docs"
_NEEDS = {"asyncio": "asyncio", "asyncio+uvloop": "uvloop", "trio": "trio"}
_PROCESSES = 3  # for each row: CPython specialises the same code better in one than in another


def main() -> None:
    asked = _arguments()
    rows: list[Row] = []
    notes: list[str] = []
    print(setting(), f"{asked.rounds} rounds", sep="; ")
    print(text_head(), flush=True)
    for found in _measured(asked):
        if isinstance(found, Row):
            rows.append(found)
            print(text_line(found, judged=not asked.smoke), flush=True)
        else:
            notes.append(found)
    for note in notes:
        print(f"note: {note}")
    if not rows:
        raise SystemExit(f"--only {asked.only!r} fits no operation; leave it out to see all")
    if asked.smoke:
        print("smoke run: everything works, and the numbers mean nothing")
    elif asked.only or asked.backend or asked.no_write:
        print("nothing written: that takes a run without --only, --backend and --no-write")
    else:
        _DOCS.joinpath("benchmarks.md").write_text(page(rows, notes, asked.rounds))
        _DOCS.joinpath("benchmarks.svg").write_text(svg(rows, setting()))
        print("written: docs/benchmarks.md, docs/benchmarks.svg")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the operations of the speed table."
    )
    parser.add_argument("--only", default="", metavar="NAME", help="operations with this name")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--backend", action="append", choices=list(_NEEDS), help="default: all")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ as it is")
    parser.add_argument("--smoke", action="store_true", help="one quick round of everything")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error(f"--rounds must be 1 or more, not {asked.rounds}")
    if asked.smoke:
        asked.rounds = 1
    return asked


def _measured(asked: argparse.Namespace) -> Iterator[Row | str]:
    """Rows as they become known, and notes on what is left out."""
    chosen = [one for one in COMPARISONS if asked.only.lower() in one.operation.lower()]
    for name in sorted({side.needs for one in chosen for side in one.others if side.needs}):
        if not is_installed(name):
            yield f"{name} is not installed, and its rows are left out"
    for backend in asked.backend or _NEEDS:
        if not is_installed(_NEEDS[backend]):
            yield f"{_NEEDS[backend]} is not installed, and the backend {backend} is left out"
        elif asked.smoke:
            for one, found in _in_a_process(chosen, backend, 1, smoke=True):
                yield from rows_of(one, backend, found)
        else:
            for one in chosen:
                shares = [asked.rounds // _PROCESSES] * _PROCESSES
                shares[0] += asked.rounds % _PROCESSES
                shares = [1] if one.is_exact else [share for share in shares if share]
                found = [
                    each
                    for share in shares
                    for _, some in _in_a_process([one], backend, share)
                    for each in some
                ]
                yield from rows_of(one, backend, found)


def _in_a_process(
    comparisons: Sequence[Comparison], backend: str, rounds: int, *, smoke: bool = False
) -> Iterator[tuple[Comparison, list[dict[str, float]]]]:
    job = {
        "operations": [one.operation for one in comparisons],
        "backend": backend,
        "rounds": rounds,
        "smoke": smoke,
    }
    command = [sys.executable, "-m", "benchmarks.one_process", json.dumps(job)]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        yield from zip(comparisons, map(json.loads, process.stdout), strict=False)
    if process.returncode:
        raise SystemExit(f"measuring on {backend} failed, see above")


if __name__ == "__main__":
    main()
