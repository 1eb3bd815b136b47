"""Texts of a program, made fit to be printed and sent.

Rule: a name that a program has chosen cannot steer a terminal, and can always be encoded.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* with what could steer a terminal written out; lines stay.

    Control characters, marks that change the direction of writing, and lone surrogates are
    written as Python's escapes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def encodable(text: str) -> str:
    """*text* with lone surrogates, which UTF-8 has no bytes for, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
