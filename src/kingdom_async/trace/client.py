"""Look at another process, and switch its recordings: the other end of the control socket.

Rule: what cannot be is a `ControlError` that says why and what to do. Nothing here waits for
longer than it says.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .control import sockets
from .control.server import VERSION
from .snapshot import Snapshot

_HOW = "start it with KINGDOM_ASYNC_CONTROL=1, or call trace.serve_control() in it"
_PATIENCE = 15.0
_LONGEST_ANSWER = 512 * 1024 * 1024


class ControlError(Exception):
    """Another process could not be asked, or refused what was asked."""


class Control:
    """A process that serves a control socket; `connect` finds it.

    Each call asks anew, and raises `ControlError` where no answer comes.
    """

    def __init__(self, name: str, path: Path) -> None:
        #: The process, ``"1234"``; for a further loop of one, ``"1234-2"``.
        self.name = name
        self.path = path

    def status(self) -> dict[str, Any]:
        """What runs there, and how it is."""
        return self._ask("status")

    def tree(self) -> dict[str, Any]:
        """The task tree: ``"tree"``, its text; ``"loop"``, how the loop answers."""
        return self._ask("tree")

    def top(self, **options: Any) -> dict[str, Any]:
        """The live tasks as rows.

        Args:
            **options: ``sort``, a column; ``descending``; ``filter``, a text; ``limit``, rows;
                ``task``, the ``ident`` of one to be told of in full.
        """
        return self._ask("top", **options)

    def on(self, level: str = "life") -> None:
        """Begin a recording that lasts until `off`."""
        self._ask("on", level=level)

    def off(self) -> Snapshot:
        """End it."""
        return _snapshot(self._ask("off", recording=True))

    def record(self, seconds: float, level: str = "steps") -> Snapshot:
        """Record the next *seconds*, and wait for them."""
        if not math.isfinite(seconds):
            raise ControlError(f"seconds must be a number such as 5, not {seconds}")
        return _snapshot(self._ask("record", seconds + _PATIENCE, seconds=seconds, level=level))

    def _ask(self, do: str, patience: float = _PATIENCE, **options: Any) -> dict[str, Any]:
        request = json.dumps({"version": VERSION, "do": do, **options}).encode() + b"\n"
        try:
            answer: dict[str, Any] = json.loads(self._exchange(request, patience))
        except socket.timeout:  # noqa: UP041  # another class before 3.10
            raise ControlError(
                f"process {self.name} did not answer within {patience:g} s: it is stopped, or "
                "in C code that lets no other thread run, such as a regular expression that "
                f"explodes; py-spy dump --pid {self.name.partition('-')[0]} can tell where"
            ) from None
        except (ConnectionRefusedError, FileNotFoundError):
            raise ControlError(f"process {self.name} no longer serves; has it ended?") from None
        except ValueError:
            raise ControlError(f"process {self.name} ended before it answered") from None
        except OSError as error:
            raise ControlError(
                f"process {self.name} cannot be asked: {error.strerror or error}"
            ) from None
        if "error" in answer:
            raise ControlError(f"process {self.name}: {answer['error']}")
        result: dict[str, Any] = answer["answer"]
        return result

    def _exchange(self, request: bytes, patience: float) -> bytes:
        end = time.monotonic() + patience
        received = bytearray()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            connection.connect(str(self.path))
            with suppress(BrokenPipeError, ConnectionResetError):  # it has answered already
                connection.sendall(request)
            while not received.endswith(b"\n") and len(received) < _LONGEST_ANSWER:
                connection.settimeout(max(0.001, end - time.monotonic()))
                try:
                    part = connection.recv(1 << 16)
                except ConnectionResetError:
                    break
                if not part:
                    break
                received += part
        return bytes(received)


def _snapshot(answer: dict[str, Any]) -> Snapshot:
    return Snapshot.from_json(json.dumps(answer["recording"]))


def serving() -> list[Control]:
    """The processes of this user that serve."""
    if not sockets.IS_SUPPORTED:
        raise ControlError(sockets.UNSUPPORTED)
    found = {
        name: Control(name, folder / f"{name}.sock")
        for folder in reversed(sockets.folders())
        for name in sockets.names(folder)
    }
    return [control for control in found.values() if sockets.answers(control.path)]


def connect(process: int | str | None = None) -> Control:
    """The process of that number; without one, the only one that serves.

    Raises:
        ControlError: If there is none, or several.
    """
    found = {control.name: control for control in serving()}
    if process is not None:
        control = found.get(str(process))
        if control is None:
            raise ControlError(_why_not(str(process)))
        return control
    if not found:
        raise ControlError(f"no process of yours can be looked into; {_HOW}")
    if len(found) > 1:
        raise ControlError("say which process:\n" + "\n".join(map(_introduced, found.values())))
    return next(iter(found.values()))


def _introduced(control: Control) -> str:
    try:
        status = control.status()
    except ControlError:
        return f"  {control.name}"
    return f"  {control.name}  {status['backend']}  {status['program']}"


def _why_not(process: str) -> str:
    number = process.partition("-")[0]
    if not number.isdecimal():
        return f"{process!r} is no number of a process; give one such as 1234"
    try:
        os.kill(int(number), 0)
        belongs = os.stat(f"/proc/{number}").st_uid if os.path.isdir("/proc/self") else None
    except PermissionError:
        belongs = -1
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        return f"there is no process {number}"
    if belongs not in (None, os.geteuid()):
        return f"process {number} belongs to another user; only that user can look into it"
    return f"process {process} cannot be looked into; {_HOW}"
