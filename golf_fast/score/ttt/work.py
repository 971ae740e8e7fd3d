"""The inputs of an adaptation strategy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golf_fast.config import ScoreConfig
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.score.examiner import Examiner


@dataclass(frozen=True)
class Work:
    """The inputs of a scoring pass.

    Attributes:
        examiner: scores tokens, and hands out those that may be trained on.
        model: the model; a strategy may change its weights, which the caller restores.
        config: the scoring settings.
        ranks: the ranks that share the work.
        training: training tokens `[n]`, for a strategy that adapts to them; None: there are none.
    """

    examiner: Examiner
    model: GPT
    config: ScoreConfig
    ranks: Ranks
    training: npt.NDArray[np.uint16] | None = None
