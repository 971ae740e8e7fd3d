"""What a check of a run says: pass, flag with what and where, or unknown with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from golf_fast.rules import VIOLATIONS

Outcome = Literal["pass", "flag", "unknown"]
RECORDS = {
    "artifact": "the artifact is the one that was scored",
    "code": "the code that is installed is the run's",
    "ledger": "the ledger is whole and about these tokens",
    "losses": "the losses are those of this artifact",
    "result": "result.json follows from the other files",
    "settings": "the settings agree with what was done",
}
"""Checks that no rule asks for by number, and without which no rule can be judged: name -> what a pass means."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: number of a rule, V1 to V14, or key of `RECORDS`.
        outcome: "pass", "flag" (a fault) or "unknown" (not judged).
        text: what was found, for people.
        where: file, with the line or field in it; "" if no file is concerned.
    """

    check: str
    outcome: Outcome
    text: str
    where: str = ""

    @property
    def name(self) -> str:
        """The name of the check, for a table."""
        return VIOLATIONS[self.check].name if self.check in VIOLATIONS else RECORDS[self.check]

    @property
    def said(self) -> str:
        """The text, with the place before it if there is one."""
        return f"{self.where}: {self.text}" if self.where else self.text

    def as_json(self) -> dict[str, Any]:
        """The fields, and the name of the check."""
        return asdict(self) | {"name": self.name}


def passed(check: str, text: str, where: str = "") -> Finding:
    """A check that found everything as it should be."""
    return Finding(check, "pass", text, where)


def flagged(check: str, text: str, where: str = "") -> Finding:
    """A check that found a fault."""
    return Finding(check, "flag", text, where)


def unknown(check: str, text: str, where: str = "") -> Finding:
    """A check that could not be judged."""
    return Finding(check, "unknown", text, where)


def outcome_of(findings: Iterable[Finding]) -> Outcome:
    """The worst outcome of the findings; "unknown" without any, as nothing was checked."""
    found = {finding.outcome for finding in findings}
    return next((outcome for outcome in ("flag", "unknown", "pass") if outcome in found), "unknown")
