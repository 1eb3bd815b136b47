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


def chain_end(error: BaseException) -> BaseException:
    """The last link of the chain of *error*: the cause where there is one, else the context."""
    while (link := error.__cause__ or error.__context__) is not None:
        error = link
    return error
