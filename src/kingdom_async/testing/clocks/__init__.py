"""Virtual time on each backend, and what happens when nothing can run any more."""
