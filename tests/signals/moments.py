"""One moment: a program, the signal that strikes it, and what must hold afterwards.

Rule: the seed decides all that can be decided. The moment is counted in lines that the program
said, and in microseconds after that line; where in the program it strikes, the machine decides.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

ITEMS = 180  # of each program
PHASES = ("startup", "work", "work", "work", "shutdown", "second")
LATEST = 20.0  # seconds from the signal to the end, on a machine that does other things as well
_NOT_BEGUN = re.compile(
    r"^imap\(.*\) ended early; pulled .* and not begun: (.*)\n", re.MULTILINE
)
#: A terminal's Ctrl-C goes to the worker processes too, also while one starts; and anyio kills
#: workers at the end, which uvloop's loop may not have heard of when it closes.
_OF_WORKERS = ("the worker process ", "unclosed resource <UVProcessTransport")
#: And asyncio asks for their status twice: one line each, and only that is passed over.
_STATUS_UNKNOWN = re.compile(
    r"^(?:Unknown child process pid|child process pid) \d+.* will report returncode 255\n",
    re.MULTILINE,
)
_PROGRAM = Path(__file__).with_name("program.py")


@dataclass(frozen=True)
class Moment:
    """When the signal is sent, drawn from a seed."""

    seed: int
    backend: str
    signal: str  # "SIGTERM" or "SIGINT"
    bug: str | None = None

    @property
    def phase(self) -> str:
        phase = PHASES[self.seed % len(PHASES)]
        return "work" if phase == "second" and self.signal == "SIGTERM" else phase

    @property
    def replay(self) -> str:
        return (
            f"python -m tests.signals --backend {self.backend} --signal {self.signal} "
            f"--seed {self.seed}"
        )


@dataclass
class Outcome:
    """What a program said, how it ended, and what is wrong with that."""

    moment: Moment
    status: int | None
    lines: list[str]
    stderr: str
    seconds: float  # from the (last) signal to the end
    struck: str = ""  # the last line that was said before the signal
    wrong: list[str] = field(default_factory=list)

    def items(self, word: str) -> list[str]:
        said = [line.split()[1] for line in self.lines if line.split()[0] == word]
        if word == "left":  # the library, too, names what it had in hand
            for names in _NOT_BEGUN.findall(self.stderr):
                said += re.findall(r"'(.+?)'", names)
        return said

    @property
    def complaints(self) -> str:
        """What was said on stderr, but for items that are named there."""
        said = _STATUS_UNKNOWN.sub("", _NOT_BEGUN.sub("", self.stderr))
        if not self.struck and "KeyboardInterrupt" in said:
            return ""  # Python interrupted one of its own imports, and went on without it
        return "" if any(words in said for words in _OF_WORKERS) else said

    def text(self) -> str:
        said = "\n  ".join(self.lines[-12:])
        return (
            f"{self.moment.replay}\n  phase {self.moment.phase}, after {self.struck!r}, "
            f"status {self.status}, {self.seconds:.2f} s\n  "
            + "\n  ".join(self.wrong)
            + f"\n  the last it said:\n  {said}\n  stderr: {self.stderr[-3000:]}"
        )


def strike(moment: Moment, latest: float = LATEST) -> Outcome:
    """Run a program and send the signal; check what must hold."""
    draw = Random(f"{moment.seed} {moment.signal}")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KINGDOM_ASYNC_")}
    environment |= {"KINGDOM_ASYNC_BACKEND": moment.backend, "PYTHONWARNINGS": "default"}
    program = [sys.executable, str(_PROGRAM), str(moment.seed), moment.bug or ""]
    begun = time.monotonic()
    with subprocess.Popen(
        [*program, moment.phase],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that a Ctrl-C can reach its worker processes too
    ) as process:
        heard = _Heard(process)
        try:
            struck = _wait_for_moment(moment.phase, draw, heard, begun)
            _send(process, moment, draw)
            if moment.phase == "second":
                time.sleep(draw.choice([0, 0.001, 0.01, 0.05]) * draw.random())
                _send(process, moment, draw)
            sent = time.monotonic()
            try:
                status = process.wait(latest)
            except subprocess.TimeoutExpired:
                status = None
            seconds = time.monotonic() - sent
        finally:
            _kill_all(process)
        heard.join()
    outcome = Outcome(moment, status, heard.lines, heard.stderr, seconds, struck)
    check(outcome)
    return outcome


class _Heard:
    """What a process says, read as it comes, so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self.stderr = ""
        self.ended = False
        self._changed = threading.Condition()
        self._process = process
        self._threads = [threading.Thread(target=f) for f in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def until(self, line: str | None, number: int = 0) -> None:
        """Wait until *line* was said, or so many lines; or all that ever will be."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self.ended
                    or (line in self.lines if line is not None else len(self.lines) >= number)
                ),
                LATEST,
            )

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.strip())
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self.stderr = self._process.stderr.read()


def _wait_for_moment(phase: str, draw: Random, heard: _Heard, begun: float) -> str:
    if phase == "startup":
        time.sleep(max(0.0, begun + draw.uniform(0, 0.6) - time.monotonic()))
    elif phase == "shutdown":
        heard.until(draw.choice(["flushed", "end", "end", "end"]))
        time.sleep(draw.choice([0, 0.001, 0.02]) * draw.random())
    else:
        heard.until(None, draw.randrange(1, 350))
        time.sleep(draw.random() / 500)
    return heard.lines[-1] if heard.lines else ""


def _send(process: subprocess.Popen[str], moment: Moment, draw: Random) -> None:
    number = getattr(signal, moment.signal)
    if moment.signal == "SIGINT" and draw.random() < 0.5:
        # as a terminal does it: the worker processes get it too
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def _kill_all(process: subprocess.Popen[str]) -> None:
    """What was left behind would keep the pipes open."""
    if process.poll() is None:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# --- what must hold ----------------------------------------------------------------------


def check(outcome: Outcome) -> None:
    wrong = outcome.wrong
    if outcome.status is None:
        wrong.append(f"it did not end within {LATEST:g} s")
        return
    if outcome.status not in _right_statuses(outcome):
        wrong.append(f"status {outcome.status}, not one of {_right_statuses(outcome)}")
    if outcome.status in (0, 130) and f"exit {outcome.status}" not in outcome.lines:
        wrong.append("it did not say how it ended")
    _check_items(outcome)
    _check_cleanup(outcome)


def _right_statuses(outcome: Outcome) -> list[int]:
    """What it may end with; the negative ones are deaths by a signal."""
    died = -getattr(signal, outcome.moment.signal)
    is_term = outcome.moment.signal == "SIGTERM"
    if "ready" not in outcome.lines:
        # Nothing is accepted: Python's own ways to die of it, also while it starts.
        return [died] if is_term else [130, died, 1]
    right = [0] if is_term else [130]
    if "end" in outcome.lines and len(outcome.items("-")) == ITEMS:
        # It had done all it had to, so the signal may have come too late to stop it.
        right = [0, *right, died]
    return right


def _check_items(outcome: Outcome) -> None:
    accepted, done, left = (Counter(outcome.items(word)) for word in ("+", "-", "left"))
    for what, counts in (("accepted", accepted), ("done", done), ("named as left", left)):
        doubled = sorted(item for item, count in counts.items() if count > 1)
        if doubled and not (what == "named as left" and outcome.moment.phase == "second"):
            outcome.wrong.append(f"{what} more than once: {doubled}")
    lost = sorted(accepted.keys() - done.keys() - left.keys())
    if lost:
        outcome.wrong.append(f"lost unsaid: {lost}")
    # The second Ctrl-C may strike where an item is entered and not yet said.
    made_up = sorted((done.keys() | left.keys()) - accepted.keys())
    if made_up and outcome.moment.phase != "second":
        outcome.wrong.append(f"never accepted: {made_up}")
    both = sorted(done.keys() & left.keys())
    if both and outcome.moment.phase != "second":
        outcome.wrong.append(f"done, and yet named as left: {both}")


def _check_cleanup(outcome: Outcome) -> None:
    if "ready" not in outcome.lines or outcome.moment.phase == "second":
        return
    # A Ctrl-C goes through the shield of the main task. So where the program was at its end
    # already, it may cut the cleanup off; never where it is what the cleanup is there for.
    may_be_cut = outcome.moment.signal == "SIGINT" and len(outcome.items("-")) == ITEMS
    for line in ("end",) if may_be_cut else ("flushed", "end"):
        if line not in outcome.lines:
            outcome.wrong.append(f"it never said {line!r}")
    if outcome.complaints:
        outcome.wrong.append("it complained")
