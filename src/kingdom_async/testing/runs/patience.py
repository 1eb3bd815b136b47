"""Somebody who notices that nothing happens any more.

Rule: one thread, which outlives the runs it looks at, so that none of them is blamed for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from typing_extensions import Self


class Onlooker:
    """Calls a function in a loop in which nothing has moved for so many real seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = threading.Event()
        self._run: _Looked | None = None
        self._thread = threading.Thread(
            target=self._look, name="cancel_everywhere", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @contextmanager
    def watching(
        self, progress: Callable[[], int], give_up: Callable[[int], object]
    ) -> Generator[None, None, None]:
        """Look at the loop that runs here, during the block.

        Args:
            progress: A number that changes with every step.
            give_up: Called in the loop with 1, then with 2, 3 …, for as long as nothing moves.
        """
        self._run = run = _Looked(progress, give_up, _caller())
        try:
            yield
        finally:
            self._run = None
            run.is_over = True

    def _look(self) -> None:
        while not self._over.wait(self._seconds / 2):
            run = self._run
            if run is not None:
                run.look()


class _Looked:
    """What is looked at, once in each half of the time."""

    def __init__(
        self,
        progress: Callable[[], int],
        give_up: Callable[[int], object],
        call: Callable[[Callable[[], object]], object],
    ) -> None:
        self._progress = progress
        self._give_up = give_up
        self._call = call
        self._seen = -1
        self._still = 0
        self._times = 0
        self.is_over = False

    def look(self) -> None:
        now = self._progress()
        self._still = self._still + 1 if now == self._seen else 0
        self._seen = now
        if self._still >= 2:
            self._still = 0
            self._times += 1
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._call(self._tell)

    def _tell(self) -> None:
        if not self.is_over:  # it ended in the turn in which it was given up
            self._give_up(self._times)


def _caller() -> Callable[[Callable[[], object]], object]:
    """What calls a function in this loop, from any thread."""
    native: Any = current_token().native_token
    if hasattr(native, "run_sync_soon"):
        return native.run_sync_soon  # type: ignore[no-any-return]
    return native.call_soon_threadsafe  # type: ignore[no-any-return]
