"""The settings of a run with their origins, on its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from golf_fast.report.html import as_object, flat, shown, table


def fields(config: Mapping[str, Any]) -> str:
    """What is not as the recipe has it, then everything, each with where it is from."""
    values, origins = as_object(config.get("config")), as_object(config.get("origins"))
    rows = [(field, shown(value), origins.get(field, "")) for field, value in flat(values).items()]
    if not rows:
        return ""
    changed = [row for row in rows if row[2] not in ("", "recipe")]
    headers = ("field", "value", "from")
    said = table(headers, changed) if changed else "<p>Everything is as the recipe has it.</p>"
    return f"{said}<details><summary>all {len(rows)} fields</summary>{table(headers, rows)}</details>"
