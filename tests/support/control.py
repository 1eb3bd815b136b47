"""Control sockets in tests: a folder of their own, raw requests, and programs that serve."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kingdom_async.trace.control import sockets

_STUCK = 20.0  # seconds; what has not answered by then hangs


@contextmanager
def runtime_folder() -> Generator[Path]:
    """A runtime folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="ka-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def only_folder(monkeypatch: Any, folder: Path) -> Path:
    """Where every socket is, for this process and those that it starts."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    place = folder / "kingdom_async"
    monkeypatch.setattr(sockets, "folders", lambda: [place])
    return place


def ask_raw(path: Path, request: bytes, *, end: bool = False) -> bytes:
    """All that is answered to *request*; with *end*, nothing more is sent, and that is said."""
    with connected(path) as client:
        try:
            client.sendall(request)
            if end:
                client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was let go meanwhile
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """What comes until the other side closes."""
    received = b""
    try:
        while part := client.recv(1 << 16):
            received += part
    except ConnectionResetError:  # it had not read all that was sent
        pass
    return received


def ask(path: Path, **request: Any) -> dict[str, Any]:
    """The answer to a request, as it is on the line."""
    line = ask_raw(path, json.dumps({"version": 1, **request}).encode() + b"\n")
    assert line.count(b"\n") == 1
    answer: dict[str, Any] = json.loads(line)
    return answer


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(_STUCK)
    client.connect(str(path))
    return client


@contextmanager
def running(
    program: str, folder: Path, *arguments: str, **variables: str
) -> Generator[subprocess.Popen[str]]:
    """A program in a process of its own, from the moment it prints ``ready``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KINGDOM_ASYNC_")}
    environment |= {"XDG_RUNTIME_DIR": str(folder), **variables}
    path = folder / "service.py"
    path.write_text(program, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-u", str(path), *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", line + process.communicate()[1]
            yield process
        finally:
            process.kill()
