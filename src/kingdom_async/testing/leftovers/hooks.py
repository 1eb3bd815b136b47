"""What is put around a method, or a function of a module, while somebody looks on.

Rule: who calls it cannot tell; and what somebody else has put around it since stays there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def hook(
    owner: Any, name: str, see: Callable[..., None], *, is_after: bool = False
) -> Callable[[], None]:
    """Have *see* called, with the same arguments, before ``owner.name`` is, or after it.

    Returns:
        What takes it away again.
    """
    is_own = name in vars(owner)
    before = getattr(owner, name, None)

    def seen(*args: Any, **kwargs: Any) -> Any:
        if not is_after:
            see(*args, **kwargs)
        result = None if before is None else before(*args, **kwargs)
        if is_after:
            see(*args, **kwargs)
        return result

    put = seen if before is None else wraps(before)(seen)
    setattr(owner, name, put)

    def remove() -> None:
        if getattr(owner, name) is not put:
            return  # somebody else has put a hook around ours, which then does nothing
        if is_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)

    return remove
