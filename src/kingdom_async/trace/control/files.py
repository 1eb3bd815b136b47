"""A recording as a file.

Rule: the suffix says which view of it is written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..snapshot import Snapshot

#: What this package writes none of; a recording of such a name would be looked for in vain.
_OTHERS = frozenset(
    (".csv", ".gif", ".gz", ".jpeg", ".jpg", ".md", ".pdf", ".png", ".svg", ".txt", ".zip")
)

#: What there is room for in a recording that is made for a file; about 25 MB.
TASKS, STEPS = 10_000, 200_000


def problem(path: str | os.PathLike[str]) -> str | None:
    """Why nothing can be written there, as far as can be told beforehand; None if it may."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _OTHERS:
        return (
            f"{path}: no view of a recording is a {suffix} file; write .html for a timeline, "
            ".json for Perfetto, .trace for the recording itself"
        )
    if path.is_dir():
        return f"{path} is a folder; give the name of a file in it"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} to write {path.name} into"
    return None


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
