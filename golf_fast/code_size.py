"""The code that a run ships, and its bytes: the one place that counts them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from golf_fast.config import RunConfig


@dataclass(frozen=True)
class Code:
    """What ships as code: one file, whose bytes count."""

    content: bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.content)

    @property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of it: equal for runs with the same code."""
        return hashlib.sha256(self.content).hexdigest()


def code(config: RunConfig) -> Code:
    """The `train_gpt.py` of a run: known before it begins, and the same for every seed."""
    from golf_fast.submit.single_file import build  # it is not needed where the file is there already

    return Code(build(config))
