"""Where the control sockets are: one for each loop that is served, named after its process.

Rule: a socket is made in a folder that only its user can enter, and that is refused where it
could be somebody else's. What a dead process has left behind is removed.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

#: Unix has room for little more than this in the address of a socket.
_LONGEST_PATH = 100
_NAME = re.compile(r"(\d+)(-\d+)?\.sock")

IS_SUPPORTED = hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")
UNSUPPORTED = "switching from another process needs unix sockets, which this platform lacks"


def folders() -> list[Path]:
    """Where a process of this user may have its socket, the best place first."""
    user = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [Path(runtime, "kingdom_async")] if os.path.isabs(runtime) else []
    places.append(Path(f"/run/user/{user}/kingdom_async"))
    for temporary in (tempfile.gettempdir(), "/tmp"):
        places.append(Path(temporary, f"kingdom_async-{user}"))
    return list(dict.fromkeys(places))


def names(folder: Path) -> dict[str, int]:
    """The sockets in a folder, without their suffix, and the process that each is named for.

    Nothing, where the folder is not there, or not one that this user alone can have filled.
    """
    if problem(folder) is not None:
        return {}
    with suppress(OSError):
        found = (_NAME.fullmatch(name) for name in sorted(os.listdir(folder)))
        return {match[0].removesuffix(".sock"): int(match[1]) for match in found if match}
    return {}


def problem(folder: Path) -> str | None:
    """Why a folder cannot be trusted; None where it can."""
    try:
        found = os.lstat(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if stat.S_ISLNK(found.st_mode):
        return f"{folder} is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is no folder"
    if found.st_uid != os.geteuid():
        return f"{folder} belongs to another user"
    if found.st_mode & 0o077:
        return f"{folder} is open to other users"
    return None


def listen() -> tuple[socket.socket, Path]:
    """A socket that this user's processes can connect to, and where it is.

    Raises:
        OSError: If there is no folder for it that this user alone can enter.
    """
    folder = _own_folder()
    _tidy(folder)
    number = 1
    while True:
        path = folder / (
            f"{os.getpid()}.sock" if number == 1 else f"{os.getpid()}-{number}.sock"
        )
        # Whoever lives there has another loop of this process, or our number elsewhere: a
        # container has numbers of its own.
        if not answers(path):
            with suppress(FileNotFoundError):
                path.unlink()
            return _bound(path), path
        number += 1


def _bound(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        # Between these two lines nobody else could reach it: the folder is closed.
        os.chmod(path, 0o600)
        made.listen(16)
    except BaseException:
        made.close()
        raise
    return made


def _own_folder() -> Path:
    problems: list[str] = []
    for folder in folders():
        if not folder.parent.is_dir():
            continue
        if len(os.fsencode(folder)) > _LONGEST_PATH - len("/1234567890-10.sock"):
            problems.append(f"{folder} is too long a path for a socket")
            continue
        if folder.name == "kingdom_async" and folder.parent.lstat().st_uid != os.geteuid():
            problems.append(f"{folder.parent} belongs to another user")  # as after su
            continue
        with suppress(OSError):
            folder.mkdir(mode=0o700)
        found = problem(folder)
        if found is None:
            return folder
        problems.append(found)
    raise OSError(
        f"no safe folder for a control socket ({'; '.join(problems)}); "
        "set XDG_RUNTIME_DIR to one that only you can enter"
    )


def _tidy(folder: Path) -> None:
    """Remove the sockets that nobody listens to any more."""
    for name in names(folder):
        path = folder / f"{name}.sock"
        if not answers(path):
            with suppress(OSError):
                path.unlink()


def answers(path: Path) -> bool:
    """True if somebody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # too many wait there already
            return True
        except OSError:
            return False
        return True
