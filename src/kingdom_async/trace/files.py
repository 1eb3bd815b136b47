"""A recording as a file.

Rule: the suffix says which view of it is written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .snapshot import Snapshot

#: What there is room for in a recording that is made for a file; about 25 MB.
TASKS, STEPS = 10_000, 200_000


def write(snapshot: Snapshot, path: str | os.PathLike[str]) -> None:
    """Write a timeline (``.html``), events for Perfetto (``.json``), or else a recording.

    Raises:
        OSError: If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".html", ".htm"):
        snapshot.to_html(path)
    elif suffix == ".json":
        snapshot.to_perfetto(path)
    else:
        snapshot.save(path)
