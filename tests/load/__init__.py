"""Many tasks, items and calls at once: all end, none is lost; ``python -m tests.load``.

Rule: each load is a function of its size and of what is under test, so that a broken one can be
put in its place. It returns its figures, and raises `AssertionError` where a promise is broken.
"""
