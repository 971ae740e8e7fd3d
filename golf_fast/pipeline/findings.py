"""What a run finds, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from golf_fast.config import ScoreConfig
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.inputs import Inputs
from golf_fast.score import Score
from golf_fast.score.ledger import Event
from golf_fast.train import Trained

if TYPE_CHECKING:  # what is only for people is not needed for a score
    from golf_fast.data.overlap import Overlap
    from golf_fast.pipeline.compression_costs import Costs

BEFORE, AFTER, ADAPTING = "score before compression", "score after compression", "score while adapting"
"""Names of the three scoring stages."""


@dataclass
class Findings:
    """What is known of a run so far; None or empty for what is not."""

    inputs: Inputs
    budget: Budget
    overlap: Overlap | None = None
    """What of the validation text the training text has, if the main rank looked."""
    trained: Trained | None = None
    costs: Costs | None = None
    """What the compression cost, in bytes and in bits per byte."""
    scores: dict[str, Score] = field(default_factory=dict)
    """The score of each scoring stage that has ended, by its name."""
    events: list[Event] = field(default_factory=list)
    """What the ledger of the final score has recorded so far."""
    resumed: int = 0
    """How often the run was cut short and went on."""
    repeated_seconds: float = 0.0
    """Seconds of work that were done again then."""
    reservations: list[str] = field(default_factory=list)
    """What that leaves open, in words."""

    def final(self, config: ScoreConfig) -> Score | None:
        """The score that counts."""
        return self.scores.get(AFTER if config.ttt == "off" else ADAPTING)
