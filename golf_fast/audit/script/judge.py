"""Judges a published script without running it: its size and wrapping, and a verdict on every violation."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf_fast.audit.script import unpack
from golf_fast.audit.script.machine import TooLargeError
from golf_fast.audit.script.smoke import Smoke
from golf_fast.audit.script.trace import Trace
from golf_fast.audit.script.verdict import Finding, findings
from golf_fast.audit.script.walk import walk

_RECURSION = 30_000


@dataclass(frozen=True)
class ScriptVerdict:
    """What is known of a script."""

    path: str
    code_bytes: int
    """Bytes of the code that ships, as it ships."""
    layers: tuple[str, ...]
    """How it was wrapped, from the outside in."""
    findings: tuple[Finding, ...]
    """V1 to V14, in order."""
    smoke: Smoke | None = None

    @property
    def flagged(self) -> list[str]:
        """The rules that the script breaks, by number."""
        return [finding.rule for finding in self.findings if finding.outcome == "flag"]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        return {
            "script": self.path,
            "code_bytes": self.code_bytes,
            "wrapped": list(self.layers),
            "flagged": self.flagged,
            "findings": [finding.as_json() for finding in self.findings],
            "smoke": None if self.smoke is None else self.smoke.as_json(),
        }

    def lines(self) -> list[str]:
        """The verdict as lines for people."""
        wrapped = f", wrapped in {' in '.join(self.layers)}" if self.layers else ""
        out = [f"{self.path}: {self.code_bytes:,} bytes of code{wrapped}"]
        for finding in self.findings:
            where = f" [{', '.join(str(line) for line in finding.lines[:6])}]" if finding.lines else ""
            out.append(f"  {finding.rule:<3} {finding.outcome:<7} {finding.text}{where}")
        if self.smoke is not None:
            out += [f"  {line}" for line in self.smoke.lines()]
        flagged = ", ".join(self.flagged)
        out.append(f"flagged: {flagged}" if flagged else "not flagged; what is unknown is not passed")
        return out


def judge(
    path: Path,
    smoke: Smoke | None = None,
    environment: Mapping[str, str] | None = None,
    source: unpack.Source | None = None,
) -> ScriptVerdict:
    """Judge a script without running it.

    Args:
        path: the script.
        smoke: what importing it showed, to go with the verdict.
        environment: names that its run had set; the others have their defaults.
        source: what is in the script, where the caller took it out of its wrapping.

    Raises:
        InputError: no file, no Python, or a wrapping that is too large or damaged.
    """
    source = source or unpack.read(path)
    trace: Trace | None = None
    with _deep_recursion():
        with suppress(TooLargeError, RecursionError):
            trace = walk(source.tree, environment)
        found = findings(source.tree, trace, environment or {})
    return ScriptVerdict(str(path), source.code_bytes, source.layers, tuple(found), smoke)


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Scripts call deeper than the interpreter's default allows when each call takes several of ours."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
