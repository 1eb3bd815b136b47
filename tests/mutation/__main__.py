"""The command: which mutants of the core does no test notice?

    python -m tests.mutation --module _queues --sample 100 --seed 1

Rule: a mutant is called a survivor only when all tests of the core that reach its lines passed
on asyncio and on trio.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from .choice import Choice, mapped_tests
from .mutants import Mutant, mutants_of
from .report import STAGES, Verdicts
from .trials import ROOT, Copy, Job, Result, Trial, run_all

KEPT = ROOT / ".mutation"
SOURCE = ROOT / "src/kingdom_async"
#: About a program's ends and its documentation: nothing that a mutant of the core changes.
_OTHER = {"test_cli.py", "test_docs.py", "test_layers.py", "test_private_names.py"}
TESTS = tuple(
    sorted(
        f"tests/{path.name}" for path in ROOT.glob("tests/test_*.py") if path.name not in _OTHER
    )
)


def main() -> None:
    options = _options()
    modules = options.module or sorted(path.stem for path in SOURCE.glob("_[!_]*.py"))
    for path in (options.results, options.reached):
        path.parent.mkdir(exist_ok=True)
    verdicts = Verdicts(options.results, options.equivalent)
    with tempfile.TemporaryDirectory(prefix="kingdom-mutation-") as folder:
        copies = [Copy(Path(folder) / str(number)) for number in range(options.jobs)]
        choice = Choice(options.reached)
        if not choice.is_known():
            print("learning which tests reach which lines, on each backend ...", flush=True)
            run_all(copies, choice.learning(TESTS))
        with ProcessPoolExecutor(options.jobs) as pool:
            found = pool.map(mutants_of, [SOURCE / f"{module}.py" for module in modules])
            everything = dict(zip(modules, found, strict=True))
        for mutants in everything.values():
            verdicts.count(mutants)
        chosen = [each for each in _draw(everything, options) if options.only in each.name]
        if options.since is not None:
            new = {module: lines_since(options.since, module) for module in modules}
            chosen = [each for each in chosen if new[each.module].intersection(each.lines)]
        print(f"{len(chosen)} mutants", flush=True)
        for stage in options.stages:
            if not options.unchecked:
                _check(stage, sorted({each.module for each in chosen}), copies, choice)
            run_all(copies, _jobs(stage, chosen, choice, verdicts))
    print(verdicts.table(modules))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", help="such as _queues; all without it")
    parser.add_argument("--only", default="", help="mutants with this text in their name")
    parser.add_argument("--sample", type=int, help="how many of each module")
    parser.add_argument("--share", type=float, default=1.0, help="or which part of each module")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--since", help="a commit: mutants of lines that are newer only")
    parser.add_argument("--unchecked", action="store_true",
                        help="do not see first that tests pass without a mutant")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--stages", nargs="*", default=STAGES[:3], choices=STAGES)
    parser.add_argument("--results", type=Path, default=KEPT / "results.jsonl",
                        help="where verdicts are kept; a run goes on from there")  # fmt: skip
    parser.add_argument("--reached", type=Path, default=KEPT / "reached.json",
                        help="where it is kept which tests reach which lines")  # fmt: skip
    parser.add_argument(
        "--equivalent", type=Path, default=Path(__file__).with_name("equivalent.txt")
    )
    return parser.parse_args()


def lines_since(commit: str, module: str) -> set[int]:
    """The lines of a module that are not as they were at a commit."""
    file = f"src/kingdom_async/{module}.py"
    diff = ["git", "diff", "--unified=0", commit, "--", file]
    found: set[int] = set()
    told = subprocess.run(diff, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for line in told.splitlines():
        if hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start, count = int(hunk[1]), int(hunk[2] or 1)
            found.update(range(start, start + count))
    return found


def _draw(everything: dict[str, list[Mutant]], options: argparse.Namespace) -> list[Mutant]:
    """A share of the mutants of each module, by lot; a greater share has the smaller in it.

    All modules take turns, so that a run that is stopped has tried as much of each.
    """
    drawn = []
    for module, mutants in everything.items():
        order = mutants[:]
        random.Random(f"{options.seed} {module}").shuffle(order)
        number = options.sample or math.ceil(options.share * len(order))
        drawn += [(place / len(order), each) for place, each in enumerate(order[:number])]
    return [each for _, each in sorted(drawn, key=lambda pair: pair[0]) if each.matters]


def _check(stage: str, modules: list[str], copies: list[Copy], choice: Choice) -> None:
    """Stop where a test fails without any mutant, in this order and beside these neighbours."""
    failures: list[str] = []

    def done(result: Result | None) -> None:
        if result is not None and result.outcome != "passed":
            failures.append(f"{result.outcome}: {result.detail}")

    if stage == "near":
        jobs = [
            (partial(_prepared, stage, _unchanged(module), choice), done) for module in modules
        ]
    else:
        trial = _trial(stage, _unchanged(modules[0], lines=range(0)), choice)
        jobs = [((lambda _: trial), done)]
    run_all(copies, jobs)
    if failures:
        logs = "\n".join(copy.log() for copy in copies)
        raise SystemExit(f"{logs}\nwithout a mutant: " + "; ".join(failures))


def _unchanged(module: str, lines: range = range(1, 9999)) -> Mutant:
    source = (SOURCE / f"{module}.py").read_text()
    return Mutant(module, "NoOp", 0, lines, "", "", source, matters=True)


def _jobs(
    stage: str, mutants: list[Mutant], choice: Choice, verdicts: Verdicts
) -> Iterator[Job]:
    for mutant in mutants:
        if verdicts.is_open(mutant, stage):
            yield _job(stage, mutant, choice, verdicts)


def _job(stage: str, mutant: Mutant, choice: Choice, verdicts: Verdicts) -> Job:
    return (
        partial(_prepared, stage, mutant, choice),
        lambda result: verdicts.add(mutant, stage, result),
    )


def _prepared(stage: str, mutant: Mutant, choice: Choice, copy: Copy) -> Trial | None:
    trial = _trial(stage, mutant, choice)
    if trial is not None:
        copy.change(mutant.module, mutant.source)
    return trial


def _trial(stage: str, mutant: Mutant, choice: Choice) -> Trial | None:
    if stage == "near":
        near = mapped_tests(mutant.module)
        return choice.trial("asyncio", mutant.module, mutant.lines, near)
    if stage == "everything":
        return Trial(("tests",), "", 3600, lambda _: 300, list)
    return choice.trial(stage, mutant.module, mutant.lines, TESTS)


if __name__ == "__main__":
    main()
