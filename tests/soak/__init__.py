"""Random programs, for hours if wanted: ``python -m tests.soak`` (see CONTRIBUTING.md).

Each check makes a program from a seed, runs it under a schedule of the same seed, and looks at
what came of it. `test_soak.py` runs some of each, and shows that each can fail.
"""
