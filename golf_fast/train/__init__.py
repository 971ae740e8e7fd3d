"""Batches to averaged weights. `python -m golf_fast.train` runs the whole pipeline, from text to a score."""

from golf_fast.train.averages import Averages
from golf_fast.train.loop import Trained, Trainer, train
from golf_fast.train.optimizer import Optimizer
from golf_fast.train.schedule import Rates, Schedule
from golf_fast.train.state import Piece, Reader

__all__ = [
    "Averages",
    "Optimizer",
    "Piece",
    "Rates",
    "Reader",
    "Schedule",
    "Trained",
    "Trainer",
    "train",
]
