"""Scores of the submissions that recipes build again, as the board of the challenge has them (docs/seed.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """The score of a submission, on the validation documents of the challenge.

    Attributes:
        submission: its pull request.
        bpb: bits per byte.
        legal: whether it was scored within the rules (docs/rules.md).
        note: what to know beside it.
    """

    submission: str
    bpb: float
    legal: bool
    note: str


PUBLISHED = {
    "base": Published("#180", 1.14277, True, "mean of 3 seeds, 8xH100"),
    "seed_as_published": Published("#366", 1.1574, False, "1 seed, 8xH100; its test-time training breaks V1"),
    "top_1855": Published("#1855", 1.06108, True, "mean of 3 seeds, 8xH100; with points that reviewers doubt"),
}
"""Recipe -> the submission that it builds again."""
