"""The control socket: another process of the same user looks, and switches recordings.

Rule: nothing that a client does can hurt the program. One request of one line, one answer,
and the connection is closed; who is slow, unclear or too many is let go. Everything happens
in threads of its own, so a loop that is blocked is answered for.

The protocol: the request is a JSON object, ``{"version": 1, "do": "tree"}``; the answer is
``{"version": 1, "answer": {…}}`` or ``{"version": 1, "error": "…"}``, on one line.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from threading import Thread, get_ident
from typing import TYPE_CHECKING, Any

from ..here import current_loop
from ..snapshot import Snapshot
from .answers import Answers
from .reach import Refused
from .sockets import IS_SUPPORTED, UNSUPPORTED, listen
from .way_in import ask_for_turns

if TYPE_CHECKING:
    from ..loops import Loop

VERSION = 1

#: Of a client: the longest request; seconds to send it and to take an answer.
LONGEST_REQUEST = 4096
_TIME_TO_ASK, _TIME_TO_TAKE = 2.0, 30.0
#: How many are served at a time.
MOST_CLIENTS = 8
#: Seconds for which the program's end waits for answers that are under way.
_FAREWELL = 1.0

_servers: list[_Server] = []


@contextmanager
def serve_control() -> Generator[Path]:
    """Let ``kingdom-async trace …`` look at the running loop for as long as the block lasts.

    The same user's processes, and nobody else's, may see the task tree and begin recordings.
    The block's value is the path of the socket. ``KINGDOM_ASYNC_CONTROL=1`` does it for `run`
    and `environment`.

    Raises:
        RuntimeError: If no event loop runs in this thread, or the platform has no unix
            sockets.
        OSError: If there is no safe place for the socket.

    Example:
        >>> with trace.serve_control():
        ...     await serve()
    """
    if not IS_SUPPORTED:
        raise RuntimeError(f"serve_control(): {UNSUPPORTED}")
    try:
        loop = current_loop()
    except RuntimeError:
        raise RuntimeError(
            "serve_control() where no event loop runs; enter it inside an async function"
        ) from None
    for there in _servers:
        if there.serves_here():
            yield there.path
            return
    server = _Server(loop)
    _servers.append(server)
    try:
        server.start()
        yield server.path
    finally:
        with suppress(ValueError):  # a fork has forgotten it
            _servers.remove(server)
        server.close()


class _Server:
    """Serves one loop, at one socket."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pid = os.getpid()
        self._answers = Answers(loop)
        self._socket, self.path = listen()
        try:
            self._inode = os.lstat(self.path).st_ino
            self._wake, self._woken = socket.socketpair()
        except BaseException:
            self._socket.close()
            raise
        self._clients: dict[Thread, socket.socket] = {}
        self._is_closing = threading.Event()
        self._thread = Thread(target=self._accept, name="kingdom_async control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def serves_here(self) -> bool:
        """True in the loop that is served."""
        return (
            self._pid == os.getpid() and self._loop.thread == get_ident() and self._loop.runs()
        )

    def close(self) -> None:
        """Let everybody go, and leave nothing behind."""
        if self._pid != os.getpid():  # a fork; the socket is its parent's
            return
        self._is_closing.set()
        self._remove()
        self._answers.close()
        with suppress(OSError):
            self._wake.send(b".")
        if self._thread.ident is not None:
            self._thread.join()
        for client in self._clients.values():
            with suppress(OSError):  # who is still asking need not be waited for
                client.shutdown(socket.SHUT_RD)
        end = time.monotonic() + _FAREWELL
        for thread, client in self._clients.items():
            thread.join(max(0.0, end - time.monotonic()))
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._clients:
            thread.join(_FAREWELL)
        for each in (self._socket, self._wake, self._woken):
            each.close()

    def forget(self) -> None:
        """We are in a fork: the threads are not here, and the sockets are the parent's."""
        for each in (self._socket, self._wake, self._woken, *self._clients.values()):
            with suppress(OSError):
                each.close()

    def _remove(self) -> None:
        with suppress(OSError):
            if os.lstat(self.path).st_ino == self._inode:
                self.path.unlink()

    # --- clients -----------------------------------------------------------------------

    def _accept(self) -> None:
        poll = select.poll()
        for each in (self._socket, self._woken):
            poll.register(each, select.POLLIN)
        while True:
            poll.poll()
            if self._is_closing.is_set():
                return
            try:
                client, _ = self._socket.accept()
            except OSError:  # no file descriptors are left, for now
                self._is_closing.wait(0.1)
                continue
            if not is_same_user(client):
                client.close()
                continue
            answered = ask_for_turns(self._loop)
            for done in [each for each in self._clients if not each.is_alive()]:
                del self._clients[done]
            thread = Thread(
                target=self._serve,
                args=(client, answered),
                name="kingdom_async client",
                daemon=True,
            )
            is_welcome = len(self._clients) < MOST_CLIENTS
            if is_welcome:
                with suppress(RuntimeError):  # no thread can be started, for now
                    thread.start()
                    self._clients[thread] = client
                    continue
            with client, suppress(OSError):
                client.setblocking(False)
                client.send(_line(f'"error":"{MOST_CLIENTS} others are served; try again"'))

    def _serve(self, client: socket.socket, answered: Callable[[], None]) -> None:
        try:
            with suppress(Exception), client:
                parts = self._answer(client)
                first = next(parts)  # may take as long as a recording
                end = time.monotonic() + _TIME_TO_TAKE
                for part in chain((first,), parts):
                    client.settimeout(max(0.001, end - time.monotonic()))
                    client.sendall(part)
        finally:
            answered()

    def _answer(self, client: socket.socket) -> Iterator[bytes]:
        try:
            request = _parsed(_receive(client))
            answer = self._answers.to(request, lambda: _has_left(client))
        except Refused as error:
            yield _line(f'"error":{json.dumps(str(error))}')
            return
        except OSError:  # it is gone, or too slow
            return
        except Exception as error:  # ours to mend, and not the program's
            text = f"could not answer: {type(error).__name__}: {error!s:.200}"
            yield _line(f'"error":{json.dumps(text)}')
            return
        recording = answer.pop("recording", None)
        if not isinstance(recording, Snapshot):
            yield _line(f'"answer":{json.dumps(answer)}')
            return
        yield f'{{"version":{VERSION},"answer":{{'.encode()
        yield "".join(f"{json.dumps(k)}:{json.dumps(v)}," for k, v in answer.items()).encode()
        yield b'"recording":'
        for part in recording.json_parts():
            yield part.encode()
        yield b"}}\n"


def _line(content: str) -> bytes:
    return f'{{"version":{VERSION},{content}}}\n'.encode()


def _receive(client: socket.socket) -> bytes:
    """The request's line.

    Raises:
        Refused: If it is no line, or too long.
        OSError: If it does not come in time.
    """
    end = time.monotonic() + _TIME_TO_ASK
    received = b""
    while b"\n" not in received:
        client.settimeout(max(0.001, end - time.monotonic()))
        part = client.recv(LONGEST_REQUEST + 1 - len(received))
        received += part
        if not part:
            raise Refused("a request is one line of JSON, and this one has no end")
        if len(received) > LONGEST_REQUEST:
            raise Refused(f"a request has at most {LONGEST_REQUEST} bytes")
    return received.partition(b"\n")[0]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        request: object = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise Refused('a request is one line of JSON, such as {"version": 1, "do": "tree"}')
    version: object = request.pop("version", None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if version != VERSION:
        raise Refused(
            f"this process speaks version {VERSION} of the protocol, not {version!r:.50}; "
            "use the kingdom-async of its own environment"
        )
    return request  # pyright: ignore[reportUnknownVariableType]


def _has_left(client: socket.socket) -> bool:
    """True once the other side is closed, and not only done with writing."""
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


def is_same_user(client: socket.socket) -> bool:
    """False for another user's process, where the system says whose it is.

    Where it does not, the folder's mode keeps others out.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    try:
        raw = client.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    except OSError:
        return False
    user: int = struct.unpack("3i", raw)[1]
    return user == os.geteuid()


def _after_fork() -> None:
    for server in _servers:
        server.forget()
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
