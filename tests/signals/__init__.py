"""SIGTERM and SIGINT at random moments of a busy program; ``python -m tests.signals``."""
