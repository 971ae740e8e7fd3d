"""What a strategy works with."""

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
    """A pass to be made.

    Attributes:
        examiner: scores, and hands out the tokens that may be trained on.
        model: its weights may be changed; who called restores them.
        training: training tokens `[n]`, for a strategy that adapts to them; None: there are none.
    """

    examiner: Examiner
    model: GPT
    config: ScoreConfig
    ranks: Ranks
    training: npt.NDArray[np.uint16] | None = None
