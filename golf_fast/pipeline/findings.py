"""The results of a run's stages, as far as it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from golf_fast.config import ScoreConfig
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.inputs import Inputs
from golf_fast.score import Score
from golf_fast.score.ledger import Event
from golf_fast.train import Trained

if TYPE_CHECKING:  # not imported at run time, since a built submission has no reports
    from golf_fast.data.overlap import Overlap
    from golf_fast.pipeline.compression_costs import Costs

BEFORE, AFTER, ADAPTING = "score before compression", "score after compression", "score while adapting"
"""Names of the three scoring stages."""


@dataclass
class Findings:
    """The results of the stages that have finished; None or empty for the others."""

    inputs: Inputs
    budget: Budget
    overlap: Overlap | None = None
    """The overlap of validation and training text; None on all ranks but the main one."""
    trained: Trained | None = None
    costs: Costs | None = None
    """The cost of the compression, in bytes and in bits per byte."""
    scores: dict[str, Score] = field(default_factory=dict)
    """The score of each finished scoring stage, by the name of the stage."""
    events: list[Event] = field(default_factory=list)
    """The events that the ledger of the final score has recorded so far."""
    resumed: int = 0
    """Number of times that the run was interrupted and resumed."""
    repeated_seconds: float = 0.0
    """Seconds of work that were repeated because of that."""
    reservations: list[str] = field(default_factory=list)
    """What could not be verified because of that, as texts."""

    def final(self, config: ScoreConfig) -> Score | None:
        """The score that counts."""
        return self.scores.get(AFTER if config.ttt == "off" else ADAPTING)
