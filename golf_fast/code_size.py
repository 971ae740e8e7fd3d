"""The code that a run ships, and its size in bytes; no other place counts it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from golf_fast.config import RunConfig


@dataclass(frozen=True)
class Code:
    """The shipped code: one file, whose bytes count."""

    content: bytes

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.content)

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the code."""
        return hashlib.sha256(self.content).hexdigest()


def code(config: RunConfig) -> Code:
    """The `train_gpt.py` of a run, which is known before the run begins and the same for every seed."""
    from golf_fast.submit.single_file import build  # imported here, since a run that is resumed does not need it

    return Code(build(config))
