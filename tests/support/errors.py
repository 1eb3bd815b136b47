"""What an error looks like, so that two can be compared."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


def shape(error: BaseException | None) -> object:
    """The types and messages in *error*; members of a group in no order, trio has none."""
    if isinstance(error, BaseExceptionGroup):
        return type(error), *sorted(map(shape, error.exceptions), key=repr)
    return type(error), *(error.args if error is not None else ())
