"""Rows of a measured micro-step: one a section, as it is known; together they are the record of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
LISTS = {"part": "parts", "update": "optimizer"}
"""Sections of one row each, and the list of a record that they are an item of."""


def merged(rows: Sequence[Row]) -> list[Row]:
    """One record for each run, in the order of their first rows.

    A record has what its rows have, `parts` and `optimizer` as lists in the order of the rows, `kernels` (a list) and
    `upstream` or None, and `projected_step` where the whole and all of an update were measured.
    """
    records: dict[str, Row] = {}
    for row in rows:
        record = records.setdefault(row["run"], {"parts": [], "optimizer": [], "kernels": [], "upstream": None})
        section = row["section"]
        if section in LISTS:
            record[LISTS[section]].append(row[section])
        record |= {name: value for name, value in row.items() if name not in ("section", *LISTS)}
    for record in records.values():
        if "micro_step" in record and [part["name"] for part in record["optimizer"]] == record["updates"]:
            update = sum(part["ms"]["median"] for part in record["optimizer"])
            record["projected_step"] = record["micro_step"]["median"] + update
    return list(records.values())
