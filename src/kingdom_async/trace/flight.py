"""The flight recorder: the last seconds, saved by themselves when something goes wrong.

Rule: what cannot be saved is told of once and harms nothing, and a program that fails all
the time does not fill the disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from .guard import report

if TYPE_CHECKING:
    from .recording import Recording
    from .records import Lint

#: How many seconds are saved, and how many files at most.
LAST, MOST = 5.0, 10


class FlightRecorder:
    """Saves the end of a recording when the loop is blocked, or an error ends the program.

    Args:
        recording: What to save.
        folder: Where to; made if it is not there.
    """

    def __init__(self, recording: Recording, folder: str | os.PathLike[str]) -> None:
        self._recording = recording
        self._folder = Path(folder)
        self._saved = 0
        self._saving = Lock()
        #: The ``id`` of the last error, which may pass here twice.
        self._last_error = 0

    def linted(self, lint: Lint, _: str | None) -> None:
        """A lint was found."""
        if lint.kind == "blocked-loop":
            self.save(lint.kind)

    def failed(self, error: BaseException) -> None:
        """An error leaves the program, or the block that is recorded."""
        is_new = self._last_error != id(error)
        if is_new and isinstance(error, Exception):  # no cancellation, no Ctrl-C, no exit
            self._last_error = id(error)
            self.save("error")

    def save(self, kind: str) -> Path | None:
        """Write the next file; returns where it is, or None if it is not."""
        with self._saving:
            if self._saved >= MOST:
                return None
            self._saved += 1
            try:
                return self._save(kind)
            except Exception as error:  # a full disk, most of all
                report("a dump of the flight recorder", error)
                return None

    def _save(self, kind: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{os.getpid()}-{self._saved}-{kind}.trace"
        part = path.with_suffix(".part")
        try:
            self._recording.dump(last=LAST).save(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path
