"""For the reference: what the docstrings call ``Example:`` is code, as ``Examples:`` is."""

import griffe


class Examples(griffe.Extension):
    """Renames the section, so that it is shown as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called for each object found."""
        if obj.docstring is not None:
            lines = obj.docstring.value.split("\n")
            obj.docstring.value = "\n".join(
                "Examples:" if line == "Example:" else line for line in lines
            )
