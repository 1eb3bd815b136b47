"""Mutation testing of the core: does a test fail for each small fault put into it?

    python -m tests.mutation --module _queues --sample 100 --seed 1

Needs `pip install cosmic-ray`, CPython 3.12 or newer, and a Unix.
"""
