"""The house: imports go down the levels only, and every one is written here."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import kingdom_async

SOURCE = Path(kingdom_async.__file__).parent

#: Level by level, from the ground up: each file, and what it may import of its own level.
LEVELS: tuple[dict[str, set[str]], ...] = (
    {
        "_errors": set(),
        "_failures": set(),
        "_arguments": {"_failures"},
        "_given": {"_arguments"},
        "_observe": set(),
        "_outside": set(),
        "_backend": set(),
    },
    {  # one primitive each
        "_scopes": set(),
        "_shielded": {"_scopes"},
        "_members": set(),
        "_groups": {"_members"},
        "_limits": {"_tokens"},
        "_tokens": set(),
        "_queue_streams": set(),
        "_queue_state": set(),
        "_buffer": {"_queue_state"},
        "_queue_batches": {"_buffer"},
    },
    {  # made of those
        "_gather": set(),
        "_races": set(),
        "_queues": set(),
        "_sources": set(),
        "_pickled": {"_thread_calls"},
        "_thread_calls": set(),
    },
    {  # work in bulk, and elsewhere
        "_crew": set(),
        "_chunks": set(),
        "_offload": set(),
    },
    {
        "_amap": set(),
        "_imap": set(),
        "_offload_map": set(),
    },
    {  # tracing: the records, and what draws them
        "trace/control/__init__": set(),
        "trace/lints/__init__": set(),
        "trace/raw/__init__": set(),
        "trace/views/__init__": set(),
        "trace/guard": set(),
        "trace/records": set(),
        "trace/stacks": {"trace/views/texts"},
        "trace/views/texts": set(),
        "trace/loops": {"trace/records"},
        "trace/snapshot": {"trace/records", "trace/views/html", "trace/views/perfetto"},
        "trace/views/html": {"trace/records", "trace/snapshot"},
        "trace/views/perfetto": {"trace/records", "trace/snapshot"},
        "trace/otel": {
            "trace/views/otel_metrics",
            "trace/views/otel_spans",
            "trace/records",
            "trace/snapshot",
        },
        "trace/views/otel_metrics": {"trace/records"},
        "trace/views/otel_spans": {"trace/records", "trace/snapshot", "trace/views/texts"},
        "trace/logs": {"trace/records"},
        "trace/lints/suspects": {"trace/records"},
        "trace/lints/waits": {"trace/stacks"},
        "trace/monitor": {"trace/guard", "trace/loops", "trace/records"},
    },
    {  # who writes them
        "trace/raw/places": set(),
        "trace/raw/rows": set(),
        "trace/raw/store": {"trace/raw/rows"},
        "trace/raw/causes": {"trace/raw/rows", "trace/raw/store"},
        "trace/raw/children": {"trace/raw/places", "trace/raw/recorder", "trace/raw/rows"},
        "trace/raw/strangers": {"trace/raw/places", "trace/raw/recorder", "trace/raw/rows"},
        "trace/raw/recorder": {
            "trace/raw/causes",
            "trace/raw/children",
            "trace/raw/places",
            "trace/raw/rows",
            "trace/raw/store",
            "trace/raw/strangers",
        },
        "trace/recording": {"trace/flight", "trace/raw/recorder", "trace/raw/store"},
        "trace/flight": {"trace/recording"},
        "trace/lints/cancels": {"trace/raw/causes", "trace/raw/recorder", "trace/raw/rows"},
        "trace/lints/leaks": {"trace/raw/recorder", "trace/raw/rows", "trace/raw/store"},
        "trace/lints/sampler": {
            "trace/lints/cancels",
            "trace/raw/causes",
            "trace/lints/leaks",
            "trace/raw/recorder",
            "trace/raw/rows",
            "trace/raw/store",
        },
        "trace/raw/edges": {"trace/raw/recorder", "trace/raw/rows", "trace/raw/store"},
        "trace/raw/asyncio_steps": {
            "trace/raw/edges",
            "trace/raw/recorder",
            "trace/raw/rows",
            "trace/raw/store",
        },
        "trace/instrument": {
            "trace/raw/causes",
            "trace/raw/edges",
            "trace/raw/recorder",
            "trace/recording",
            "trace/raw/rows",
        },
        "trace/raw/blocks": {
            "trace/raw/causes",
            "trace/raw/places",
            "trace/raw/recorder",
            "trace/raw/rows",
        },
    },
    {  # who switches it on and off
        "trace/here": set(),
        "trace/hub": {"trace/here"},
        "trace/spans": set(),
        "trace/switch": {"trace/hub"},
        "trace/views/live": set(),
        "trace/views/tree": {"trace/here", "trace/hub", "trace/views/live"},
        "trace/lints/holders": set(),
        "trace/lints/pings": {"trace/lints/holders", "trace/hub"},
        "trace/lints/watchdog": {"trace/here", "trace/lints/pings"},
    },
    {  # asked and switched from another process
        "trace/control/sockets": set(),
        "trace/control/files": set(),
        "trace/control/way_in": set(),
        "trace/views/table": set(),
        "trace/control/reach": {"trace/views/table"},
        "trace/control/answers": {
            "trace/control/files",
            "trace/control/reach",
            "trace/views/table",
        },
        "trace/control/server": {
            "trace/control/answers",
            "trace/control/reach",
            "trace/control/sockets",
            "trace/control/way_in",
        },
        "trace/client": {"trace/control/server", "trace/control/sockets"},
        "trace/control/programs": {"trace/control/server", "trace/control/files"},
    },
    {"trace/__init__": set()},
    {  # programs
        "_settings": set(),
        "_trio_clock": set(),
        "_interrupts": {"_trio_clock"},
    },
    {"_run": set()},
    {"__init__": set()},
    {  # testing, which stands on all of it: what is private elsewhere, and small parts
        "testing/internals/__init__": set(),
        "testing/internals/features": set(),
        "testing/internals/clocks": {"testing/internals/features"},
        "testing/internals/faults": {"testing/internals/features"},
        "testing/internals/leaks": {"testing/internals/features"},
        "testing/internals/plugin": {"testing/internals/features"},
        "testing/internals/schedules": {"testing/internals/features"},
        "testing/internals/servers": {"testing/internals/features"},
        "testing/clocks/__init__": set(),
        "testing/clocks/walk": {"testing/internals/clocks"},
        "testing/leftovers/__init__": set(),
        "testing/leftovers/cleanups": set(),
        "testing/leftovers/hooks": set(),
        "testing/leftovers/left": set(),
        "testing/leftovers/processes": set(),
        "testing/plugin/__init__": set(),
        "testing/plugin/options": set(),
        "testing/reports": set(),
        "testing/runs/__init__": set(),
        "testing/runs/checked": {"testing/reports"},
        "testing/runs/coroutines": set(),
        "testing/runs/excuses": set(),
        "testing/runs/patience": set(),
        "testing/runs/said_once": set(),
        "testing/runs/steps": {"testing/internals/faults", "testing/internals/servers"},
        "testing/runs/warned": {"testing/internals/leaks"},
    },
    {
        "testing/clocks/idle": set(),
        "testing/leftovers/births": set(),
        "testing/runs/held": set(),
        "testing/runs/orders": set(),
        "testing/runs/written": set(),
    },
    {
        "testing/clocks/asyncio_clock": set(),
        "testing/clocks/trio_clock": set(),
        "testing/leaks": set(),
        "testing/plugin/guard": set(),
        "testing/plugin/last_records": set(),
        "testing/runs/injection": set(),
        "testing/strategies": set(),
    },
    {
        "testing/clock": set(),
        "testing/plugin/beside": set(),
        "testing/plugin/between": set(),
        "testing/runs/fault_options": set(),
    },
    {
        "testing/plugin/around": set(),
        "testing/schedules": set(),
    },
    {"testing/runs/one_run": set()},
    {"testing/faults": set()},
    {"testing/__init__": set()},
    {"pytest_plugin": set(), "testing/plugin/tools": set()},
    {  # users of the public names, like any other
        "cli/source_files": set(),
        "cli/survey": {"cli/source_files"},
        "cli/demo": {"cli/survey"},
        "cli/top_texts": set(),
        "cli/top": {"cli/top_texts"},
        "cli/trace": {"cli/top"},
        "cli/__init__": {"cli/demo", "cli/trace"},
        "cli/__main__": {"cli/__init__"},
    },
)

LEVEL = {name: number for number, level in enumerate(LEVELS) for name in level}


@cache
def files() -> dict[str, Path]:
    return {
        path.relative_to(SOURCE).with_suffix("").as_posix(): path
        for path in sorted(SOURCE.rglob("*.py"))
    }


@cache
def imports_of(name: str, path: Path) -> set[str]:
    """The files of this package that a file imports, wherever in it."""
    package = ["kingdom_async", *name.split("/")[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            modules = [".".join([*base, *filter(None, [node.module])])]
            modules += [f"{modules[0]}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        candidates = {module.replace(".", "/") for module in modules}
        ours = {c.removeprefix("kingdom_async/") for c in candidates if "kingdom_async" in c}
        files_here = {module for module in ours if module in files()}
        packages = {"__init__" if m == "kingdom_async" else f"{m}/__init__" for m in ours}
        # "from . import _observe" imports the file, and not what is in the package's own
        found |= files_here or (packages & files().keys())
    return found


def test_every_file_has_its_level() -> None:
    """A new file is put into the table, and one that is gone is taken out."""
    assert LEVEL.keys() == files().keys()


def test_imports_go_down_only() -> None:
    """A file imports from lower levels, and of its own only what is listed."""
    wrong = {
        f"{name} imports {imported}"
        for name, path in files().items()
        for imported in imports_of(name, path)
        if LEVEL[imported] >= LEVEL[name] and imported not in LEVELS[LEVEL[name]][name]
    }
    assert wrong == set()


def test_every_neighbour_listed_is_imported() -> None:
    """The table allows no more than is needed."""
    for level in LEVELS:
        for name, neighbours in level.items():
            assert neighbours <= imports_of(name, files()[name])
