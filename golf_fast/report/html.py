"""Pieces of a page that is whole in itself: what they show is escaped, and nothing is run, loaded or sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from golf_fast.report.style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page is whole in itself: its own styles apply, and nothing is run, loaded or sent, whatever a name in it says."""


def document(title: str, sections: Sequence[str]) -> str:
    """A whole page of the sections that are not empty."""
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.strip()}\n</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """A part of the page under its title; nothing for no content, which is HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def plots(figures: Sequence[tuple[str, str]]) -> str:
    """Plots side by side where there is room: the title and the SVG, or another element, of each that has one."""
    drawn = "".join(f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in figures if svg)
    return f'<div class="plots">{drawn}</div>' if drawn else ""


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = ()) -> str:
    """A table that scrolls in a box of its own where it is too wide.

    Args:
        numbers: the columns that are aligned to the right.
    """

    def cells(row: Sequence[Any], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if column in numbers else ''}>{escape(str(cell))}</{tag}>"
            for column, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{cells(headers, "th")}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def number(value: Any, form: str) -> str:
    """A number in a format; nothing for what is none, as a version that is not known here may have left it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return format(value, form.replace("d", ".0f") if isinstance(value, float) else form)


def as_object(value: Any) -> dict[str, Any]:
    """`value` if it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none of what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """The entries of a list as texts; none of what is no list."""
    return list(map(str, value)) if isinstance(value, list) else []


def shown(value: Any) -> str:
    """Any value of JSON, for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.6g}"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_entry(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def _entry(value: Any) -> str:
    if isinstance(value, dict) and {"name", "reason"} <= value.keys():
        return f"{value['name']} ({value['reason']})"
    return shown(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, of objects in objects."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
