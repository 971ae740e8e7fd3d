"""Plain-text tables, the same on every terminal and in every file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from golf_fast.errors import printable

Cell = str | int | float | None

_NUMBER = re.compile(r"[-+]?[\d,]+(\.\d+)?(e[-+]?\d+)?%?")


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Aligned text, one line a row, without a newline at the end.

    Whole numbers get thousands separators, other numbers four decimals (give a text for another format), None a dash.
    A column of numbers is aligned to the right. The width depends on nothing but the cells.
    """
    for row in rows:
        assert len(row) == len(headers), f"a row of {len(row)} cells under {len(headers)} headers"
    texts = [[_text(cell) for cell in row] for row in rows]
    columns = range(len(headers))
    widths = [max(len(row[column]) for row in [list(headers), *texts]) for column in columns]
    numeric = [
        any(row[column] != "-" for row in texts)
        and all(row[column] == "-" or _NUMBER.fullmatch(row[column]) for row in texts)
        for column in columns
    ]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            f"{cells[column]:>{widths[column]}}" if numeric[column] else f"{cells[column]:<{widths[column]}}"
            for column in columns
        ]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, texts)])


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.4f}"
    return printable(cell)  # names come from files
