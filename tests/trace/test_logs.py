"""Lints and errors are logged with fields, and logging never harms the program."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from kingdom_async.trace import logs
from kingdom_async.trace.records import Lint
from support.made_up_snapshots import BEGAN, task

LINT = Lint("long-step", 7, "a.py:3 in f", "task 'x' held the loop for 0.2 s", BEGAN)
FAILED = task(3, 1, outcome="error", error="KeyError")
ERROR = KeyError("x")
FIELDS = {"kind", "task", "task_name", "place", "at", "parent", "group", "error"}


class Broken(logging.Handler):
    """A handler that raises, as some that send to a network do."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """Our logger, as it was afterwards, with nothing told yet."""
    monkeypatch.setattr(logs, "_told", set[str]())
    ours = logging.getLogger("kingdom_async.trace")
    before = ours.handlers[:], ours.filters[:], ours.level
    yield ours
    ours.handlers[:], ours.filters[:] = before[:2]
    ours.setLevel(before[2])  # which forgets what it knew to be off


def fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in FIELDS}


def test_a_lint_is_a_warning_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    """The sentence with its kind; the rest to search by."""
    logs.log_lint(LINT, "x")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("kingdom_async.trace", "WARNING")
    assert record.getMessage() == "long-step: task 'x' held the loop for 0.2 s"
    assert fields(record) == {
        "kind": "long-step",
        "task": 7,
        "task_name": "x",
        "place": "a.py:3 in f",
        "at": BEGAN,
        "parent": None,
        "group": None,
        "error": None,
    }


def test_a_failed_task_is_an_error_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Name, line and error in the sentence, and as fields."""
    logs.log_error(FAILED, ERROR)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == "task 'task-3' (service.py:4 in main) failed: KeyError"
    assert record.exc_info == (KeyError, ERROR, ERROR.__traceback__)
    assert fields(record) == {
        "kind": "task-error",
        "task": 3,
        "task_name": "task-3",
        "place": "service.py:4 in main",
        "at": FAILED.ended,
        "parent": 1,
        "group": "TaskGroup at service.py:10 in main",
        "error": "KeyError",
    }


def test_fields_are_plain_values(caplog: pytest.LogCaptureFixture) -> None:
    """A formatter that writes JSON can write them."""
    logs.log_lint(LINT, None)
    logs.log_error(FAILED, ERROR)
    for record in caplog.records:
        assert json.loads(json.dumps(fields(record))) == fields(record)


def test_messages_of_one_kind_have_one_template(caplog: pytest.LogCaptureFixture) -> None:
    """Services that group by the template put them together; a % in a name is a name."""
    logs.log_error(task(0, name="50% done", outcome="error", error="OSError"), OSError())
    (record,) = caplog.records
    assert record.msg == "task %r%s failed: %s"
    assert "'50% done'" in record.getMessage()


def test_fields_never_take_the_name_of_a_part_of_a_record() -> None:
    """`logging` refuses such a record with a KeyError."""
    parts = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}
    assert not FIELDS & parts


@pytest.mark.parametrize(
    "log", [lambda: logs.log_lint(LINT, "x"), lambda: logs.log_error(FAILED, ERROR)]
)
def test_a_broken_handler_harms_nothing_and_is_told_once(
    log: Callable[[], None], logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The caller goes on; stderr has one line for any number of records."""
    logger.addHandler(Broken(OSError("no network")))
    for _ in range(3):
        log()
    assert capsys.readouterr().err == (
        "kingdom_async.trace: a logging handler failed with OSError; "
        "its record is lost, and this is not told again\n"
    )


def test_a_broken_filter_and_a_broken_factory_harm_nothing(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only handlers are somebody else's."""

    def refuse(*args: object, **kwargs: object) -> logging.LogRecord:
        raise ValueError

    def fail(record: logging.LogRecord) -> bool:
        raise LookupError

    logger.addFilter(fail)
    logs.log_error(FAILED, ERROR)
    logger.removeFilter(fail)
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(refuse)
    try:
        logs.log_error(FAILED, ERROR)
    finally:
        logging.setLogRecordFactory(before)
    assert logs._told == {"LookupError", "ValueError"}


def test_a_closed_stderr_harms_nothing(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nobody left to tell."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    logger.addHandler(Broken(OSError()))
    logs.log_error(FAILED, ERROR)


def test_ctrl_c_in_a_handler_goes_through(logger: logging.Logger) -> None:
    """Only failures are held back."""
    logger.addHandler(Broken(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        logs.log_error(FAILED, ERROR)


def test_a_level_that_is_off_costs_no_record(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """The logger's own level decides, as for any other."""
    logger.setLevel(logging.ERROR)
    logs.log_lint(LINT, "x")
    assert not caplog.records


# --- many of a kind ------------------------------------------------------------------------


def lints_of(log: logs.LintLog, times: list[float], place: str = "a.py:3 in f") -> None:
    for at in times:
        if log.is_first("stuck", place, at):
            log.log(Lint("stuck", 1, place, f"task 'x' is stuck at {at:g}", at), "x", place)
        else:
            log.count("stuck", place, "x", "is stuck", at)


def test_a_rule_and_a_place_have_a_line_in_ten_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first at once, the others in one line when its ten seconds are over."""
    log = logs.LintLog()
    lints_of(log, [100, 101, 102])
    assert log.tick(105) == 106
    assert len(caplog.records) == 1
    log.tick(110)
    log.tick(115)
    assert [record.getMessage() for record in caplog.records[1:]] == [
        "stuck: 2 more tasks 'x' (a.py:3 in f) have waited up to 102 s"
    ]
    lints_of(log, [119])  # within the ten seconds of that line
    assert len(caplog.records) == 2
    log.tick(120)
    assert caplog.records[2].getMessage() == "stuck: task 'x' (a.py:3 in f) is stuck"
    log.tick(130)  # nothing came: it is forgotten
    lints_of(log, [131])
    assert caplog.records[3].getMessage() == "stuck: task 'x' is stuck at 131"


def test_what_was_counted_is_told_without_a_clock(caplog: pytest.LogCaptureFixture) -> None:
    """The next lint, whatever it is about, and the end of the recording tell of it, too."""
    log = logs.LintLog()
    lints_of(log, [100, 101])
    lints_of(log, [111], place="b.py:1 in g")
    assert [record.getMessage() for record in caplog.records] == [
        "stuck: task 'x' is stuck at 100",
        "stuck: task 'x' (a.py:3 in f) is stuck",
        "stuck: task 'x' is stuck at 111",
    ]
    lints_of(log, [112], place="b.py:1 in g")
    log.end()
    log.end()
    assert len(caplog.records) == 4


def test_ten_thousand_places_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Those beyond the first places share one line, and nothing grows without a bound."""
    log = logs.LintLog()
    for number in range(10_000):
        lints_of(log, [100], place=f"a.py:{number} in f")
    log.end()
    assert len(caplog.records) == 201
    assert caplog.records[-1].getMessage() == (
        "stuck: 9800 more tasks 'x' (at various places) have waited up to 100 s"
    )
