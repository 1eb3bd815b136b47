"""The suite, over and over: a test that fails in one run and passes in another is flaky.

    python -m tests.repeat                       a hundred times, each in a process of its own
    python -m tests.repeat --times 10 -- tests/trace
    KINGDOM_TEST_QUICK=core python -m tests.repeat

Ends with 1 if any test failed in any run. What stands after ``--`` is pytest's. A run that
takes half an hour hangs, and counts as failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_STUCK = 1800  # seconds
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)


def main() -> int:
    asked = _arguments()
    failures: Counter[str] = Counter()
    broken = 0
    for number in range(1, asked.times + 1):
        failed, last_line = _run(asked.pytest)
        failures.update(failed.keys())
        broken += bool(failed)
        print(f"{number} of {asked.times}: {last_line}", flush=True)
        for test, why in failed.items():
            print(f"    {test}: {why}", flush=True)
    print(f"{asked.times} runs, {broken} with a failure")
    for test, times in failures.most_common():
        print(f"    {times} times: {test}")
    return int(broken > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.repeat", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--times", type=int, default=100, help="default: 100")
    parser.add_argument("pytest", nargs="*", help="pytest's arguments, after --")
    return parser.parse_args()


def _run(arguments: list[str]) -> tuple[dict[str, str], str]:
    """The tests that failed with why, and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", *arguments]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env={**os.environ, "COLUMNS": "300"},  # for a whole reason
            capture_output=True, text=True, timeout=_STUCK, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"the run": f"did not end in {_STUCK} s"}, "hung"
    failed: dict[str, str] = dict(_FAILED.findall(done.stdout))
    if done.returncode and not failed:  # it was killed, most often as one that hangs
        said = "\n".join([*done.stdout.splitlines()[-5:], *done.stderr.splitlines()[-100:]])
        failed["the run"] = f"exit code {done.returncode}\n{said}"
    return failed, (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")


if __name__ == "__main__":
    sys.exit(main())
