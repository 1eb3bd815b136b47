"""What became of each mutant, kept in a file, and the table of it.

Rule: a line is written as soon as a trial ends, so that a run may be stopped and go on.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .mutants import Mutant
    from .trials import Result

#: One after the other: who survives one is tried in the next.
STAGES = ("near", "asyncio", "trio", "asyncio+uvloop", "everything")

_HEAD = "| module | mutants | tried | killed | timed out | survived | equivalent | score |"


class Verdicts:
    """The verdicts so far."""

    def __init__(self, path: Path, equivalent: Path) -> None:
        self._path = path
        self._equivalent = _equivalent(equivalent)
        #: by mutant: the stages it has passed, or what killed it
        self._passed: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._killed: dict[tuple[str, str], str] = {}
        self._mutants: dict[str, list[Mutant]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                self._note(json.loads(line))

    def _note(self, row: dict[str, str]) -> None:
        which = (row["name"], row["key"])
        if row["outcome"] in ("failed", "timed out"):
            self._killed[which] = row["outcome"]
        else:
            self._passed[which].add(row["stage"])

    def count(self, mutants: list[Mutant]) -> None:
        for mutant in mutants:
            if mutant.matters:
                self._mutants.setdefault(mutant.module, []).append(mutant)

    def is_open(self, mutant: Mutant, stage: str) -> bool:
        which = (mutant.name, mutant.key)
        before = STAGES[: STAGES.index(stage)][-1:]
        return (
            which not in self._killed
            and stage not in self._passed[which]
            and self._passed[which].issuperset(before)
            and mutant.key not in self._equivalent
        )

    def add(self, mutant: Mutant, stage: str, result: Result | None) -> None:
        outcome = "no tests" if result is None else result.outcome
        row = {
            "name": mutant.name,
            "key": mutant.key,
            "stage": stage,
            "outcome": outcome,
            "by": "" if result is None else result.detail,
            "seconds": "" if result is None else f"{result.seconds:.1f}",
        }
        self._note(row)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if outcome in ("passed", "no tests"):
            print(f"{stage}: {outcome}: {mutant.name}: {mutant.key}", flush=True)

    def table(self, modules: list[str]) -> str:
        rows, total = [_HEAD, "|---" * 8 + "|"], Counter[str]()
        for module in modules:
            counts = Counter(map(self._verdict, self._mutants.get(module, ())))
            total += counts
            rows.append(_row(module, counts))
        rows.append(_row("**all**", total))
        return "\n".join(rows)

    def _verdict(self, mutant: Mutant) -> str:
        which = (mutant.name, mutant.key)
        if which in self._killed:
            return self._killed[which]
        if mutant.key in self._equivalent:
            return "equivalent"
        return "survived" if self._passed[which] else "not tried"


def _row(module: str, counts: Counter[str]) -> str:
    tried = sum(counts.values()) - counts["not tried"]
    dead = counts["failed"] + counts["timed out"]
    told = tried - counts["equivalent"]
    score = f"{100 * dead / told:.1f} %" if told else "-"
    numbers = (
        sum(counts.values()), tried, counts["failed"], counts["timed out"],
        counts["survived"], counts["equivalent"],
    )  # fmt: skip
    return f"| {module} | " + " | ".join(map(str, numbers)) + f" | {score} |"


def _equivalent(path: Path) -> set[str]:
    """The keys in the file: a line each, with the reason above, after a #."""
    if not path.exists():
        return set()
    lines = path.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}
