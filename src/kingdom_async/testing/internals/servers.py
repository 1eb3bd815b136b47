"""What asyncio's servers lose by themselves where a cancellation comes at the wrong moment.

Rule: a socket is closed here only where asyncio drops it open and no program has it in hand, so
that nobody is blamed for it. uvloop closes its own. Where a private name is gone, asyncio's
methods stay as they are, and what they lose is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .features import Gone, checks, wanted, what_is_missing

SERVERS = "servers of asyncio"

_MAKE = ("_make_socket_transport", "_make_ssl_transport")
_CREATE = ("create_server", "create_unix_server")


def methods_that_lose_nothing(base: Any) -> dict[str, Any]:
    """What a subclass of *base*, the class of a loop, has in place of its own methods."""
    if not issubclass(base, asyncio.SelectorEventLoop) or what_is_missing(SERVERS):
        return {}
    return {
        **{name: _refusing(getattr(base, name)) for name in _MAKE},
        **{name: _closing(getattr(base, name)) for name in _CREATE},
    }


def _refusing(make: Callable[..., Any]) -> Callable[..., Any]:
    def make_transport(
        self: Any, sock: Any, *args: Any, server: Any = None, **more: Any
    ) -> Any:
        """As asyncio's, which fails as well where the server was closed after it had accepted.

        That is an assertion, and leaves the socket open.
        """
        if server is not None and not server.sockets:
            sock.close()
            raise ConnectionAbortedError("the server was closed before it took the connection")
        return make(self, sock, *args, server=server, **more)

    return make_transport


def _closing(create: Any) -> Callable[..., Any]:
    async def create_any_server(self: Any, *args: Any, **more: Any) -> Any:
        """As asyncio's, which listens for a turn of the loop before anybody has the server."""
        try:
            return await create(self, *args, **more)
        except BaseException as error:
            server = _local(error.__traceback__, create.__code__, "server")
            if isinstance(server, asyncio.AbstractServer):
                server.close()
            raise

    return create_any_server


def _local(traceback: TracebackType | None, code: object, name: str) -> object:
    """What *name* is in the function that *traceback* has gone through."""
    while traceback is not None:
        if traceback.tb_frame.f_code is code:
            return traceback.tb_frame.f_locals.get(name)
        traceback = traceback.tb_next
    return None


@checks(SERVERS)
def _check_names() -> None:
    wanted(asyncio.SelectorEventLoop, *_MAKE)
    for name in _CREATE:
        create: Any = getattr(asyncio.SelectorEventLoop, name)
        if "server" not in create.__code__.co_varnames:
            raise Gone(f"the server of asyncio.SelectorEventLoop.{name}")
