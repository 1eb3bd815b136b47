"""What the reference reads beside docstrings in mkdocstrings' sense.

``Example:`` is code, as ``Examples:`` is, and a ``#:`` comment is the docstring of the
attribute below it.
"""

import griffe


class Examples(griffe.Extension):
    """Makes both known before the docstrings are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called for each object found."""
        if obj.docstring is not None:
            lines = obj.docstring.value.split("\n")
            obj.docstring.value = "\n".join(
                "Examples:" if line == "Example:" else line for line in lines
            )
        elif obj.is_attribute and obj.lineno is not None and obj.lineno > 1:
            above = obj.lines_collection[obj.filepath][obj.lineno - 2].strip()
            if above.startswith("#:"):
                obj.docstring = griffe.Docstring(above[2:].strip(), parent=obj)
