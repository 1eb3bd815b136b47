"""The goals as a picture: one bar for each row, drawn against the line it may not cross.

Rule: the picture brings its own background, so that it can be read on any page, and turns
dark where the reader's system is.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from .comparison import Row  # noqa: TC001
from .report import in_order, short

_LABELS = 300  # pixels, from the left edge to where the bars begin
_GOAL = 340  # pixels, from there to the goal line
_LONGEST = 1.35  # times the goal; longer bars are cut, and end in a point
_VALUES = 110
_WIDTH = _LABELS + int(_GOAL * _LONGEST) + _VALUES
_VALUES_AT = _LABELS + _GOAL * _LONGEST + 14
_BAR, _STEP, _GAP, _TOP = 9, 12, 14, 78

_STYLE = """\
text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.quiet { fill: #59636e; }
.small { font-size: 10px; }
.page { fill: #ffffff; }
.rule { stroke: #d1d9e0; }
.goal { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3; }
.of-goal { fill: #cf222e; }
.asyncio { fill: #2f6fb5; }
.uvloop { fill: #2a9d8f; }
.trio { fill: #d9822b; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #9198a1; }
  .page { fill: #0d1117; }
  .rule { stroke: #3d444d; }
  .goal { stroke: #ff7b72; }
  .of-goal { fill: #ff7b72; }
  .asyncio { fill: #5a9be6; }
  .uvloop { fill: #3fb8a9; }
  .trio { fill: #f0a04b; }
}
"""
_CLASSES = {"asyncio": "asyncio", "asyncio+uvloop": "uvloop", "trio": "trio"}


def svg(rows: Sequence[Row], setting: str) -> str:
    """The picture of those *rows* that have a goal."""
    parts: list[str] = []
    y = _TOP
    with_goal = in_order(row for row in rows if row.goal is not None)
    for (operation, against), group in groupby(
        with_goal, key=lambda row: (row.operation, row.against)
    ):
        bars = list(group)
        middle = y + (len(bars) * _STEP) / 2
        parts.append(_text(_LABELS - 12, middle - 2, operation, "end"))
        parts.append(
            _text(_LABELS - 12, middle + 11, f"against {against}", "end", "quiet small")
        )
        for row in bars:
            parts.append(_bar(row, y))
            y += _STEP
        y += _GAP + _STEP * (len(bars) == 1)  # the label has two lines
    line = _LABELS + _GOAL
    height = y + 26
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" ',
            f'width="{_WIDTH}" height="{height}" role="img">\n',
            "<title>Ratio to goal, by operation and backend</title>\n",
            f"<style>\n{_STYLE}</style>\n",
            f'<rect class="page" width="{_WIDTH}" height="{height}" rx="8"/>\n',
            _text(
                20, 30, "Cost beside what it stands in for, as a share of the goal", of="title"
            ),
            _legend(52),
            _text(line, _TOP - 12, "goal", "middle", "of-goal"),
            *parts,
            f'<path class="rule" d="M{_LABELS} {_TOP - 6}V{y - 6}"/>\n',
            f'<path class="goal" d="M{line} {_TOP - 6}V{y - 6}"/>\n',
            _text(
                20,
                height - 12,
                f"Numbers: ratio / goal; less is better. {setting}",
                of="quiet small",
            ),
            "</svg>\n",
        )
    )


def _bar(row: Row, y: float) -> str:
    assert row.goal is not None
    share = row.value / row.goal
    length = max(min(share, _LONGEST) * _GOAL, 1.5)
    end = _LABELS + length
    edge = end - (5 if share > _LONGEST else 0)
    low = y + _BAR
    shape = f"M{_LABELS} {y}H{edge:.1f}L{end:.1f} {(y + low) / 2}L{edge:.1f} {low}H{_LABELS}Z"
    unit = f" {row.unit}" if row.relation == "excess" else ""
    number = f"{short(row.value)} / {row.goal:g}{unit}"
    return f'<path class="{_CLASSES[row.backend]}" d="{shape}"/>\n' + _text(
        _VALUES_AT, low - 0.5, number, of="small"
    )


def _legend(y: float) -> str:
    parts: list[str] = []
    x = 20.0
    for name, of in _CLASSES.items():
        parts.append(f'<rect class="{of}" x="{x}" y="{y - 9}" width="10" height="10"/>\n')
        parts.append(_text(x + 15, y, name))
        x += 40 + 7 * len(name)
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str = "start", of: str = "") -> str:
    of = f' class="{of}"' if of else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{of}>{escape(text)}</text>\n'
