"""What is optional is not imported until it is needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.backends import REAL, chosen

OPTIONAL = ("distributed", "loky", "opentelemetry", "rich", "trio", "uvicorn", "uvloop")


def modules_after(program: str, **variables: str) -> set[str]:
    """The optional packages that a fresh Python has imported after *program*."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KINGDOM_ASYNC_")}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(OPTIONAL) & set(done.stdout.split())


def test_importing_the_package_imports_nothing_optional() -> None:
    """Not even to see what is installed."""
    assert modules_after("import kingdom_async as ka\nka.run\nka.Queue(1)") == set()


@pytest.mark.parametrize("backend", chosen(REAL))
def test_a_run_imports_its_own_loop_only(backend: str) -> None:
    """trio and uvloop are imported where they run."""
    program = "import kingdom_async as ka\nka.run(ka.checkpoint)"
    needed = {"asyncio": set(), "asyncio+uvloop": {"uvloop"}, "trio": {"trio"}}[backend]
    assert modules_after(program, KINGDOM_ASYNC_BACKEND=backend) == needed


def test_the_command_imports_rich_when_it_reports() -> None:
    """Its help needs nothing that is not there."""
    program = (
        "from kingdom_async.cli import main\ntry:\n main(['--help'])\nexcept SystemExit: 0"
    )
    assert modules_after(program) == set()
