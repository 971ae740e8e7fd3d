"""Test-time training: one module per strategy."""

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
        run: function that makes a scoring pass; called on every rank.
        track: "A" if scored tokens never change the predictor, "B" if it adapts to them.
        rate: name of the setting of its learning rate, for error messages; "" if it has none.
    """

    run: Callable[[Work], None]
    track: Literal["A", "B"]
    rate: str = ""

    def rate_of(self, config: ScoreConfig) -> float:
        """The value of the setting that `rate` names."""
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
"""The strategies by the value of `score.ttt`."""

__all__ = ["STRATEGIES", "Strategy", "Work"]
