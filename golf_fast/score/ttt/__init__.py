"""Test-time training: one file a strategy, each with the track that it states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from golf_fast.config import ScoreConfig
from golf_fast.score.ttt import chunked, documents, held_out, off, phased, train_then_score
from golf_fast.score.ttt.work import Work


@dataclass(frozen=True)
class Strategy:
    """A way to adapt while scoring.

    Attributes:
        run: makes a pass; every rank calls it.
        track: A: what is scored never changes the predictor. B: it adapts to what it has scored.
        rate: names the setting of its learning rate, for people whose losses left the numbers; "" for none.
    """

    run: Callable[[Work], None]
    track: Literal["A", "B"]
    rate: str = ""

    def rate_of(self, config: ScoreConfig) -> float:
        """The learning rate that `rate` names."""
        value: object = config
        for part in self.rate.split(".")[1:]:
            value = getattr(value, part)
        assert isinstance(value, float | int)
        return value


STRATEGIES = {
    "off": Strategy(off.run, "A"),
    "chunked": Strategy(chunked.run, "B", "score.ttt_lr"),
    "documents": Strategy(documents.run, "B", "score.documents.lr"),
    "phased": Strategy(phased.run, "B", "score.documents.lr"),
    "held_out": Strategy(held_out.run, "A", "score.held_out.lr"),
    "train_then_score": Strategy(train_then_score.run, "B", "score.ttt_lr"),
}
"""By the value of `score.ttt`."""

__all__ = ["STRATEGIES", "Strategy", "Work"]
