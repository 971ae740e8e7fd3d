"""Trackers: programs beside the run directory that are told its numbers. None is asked for by default."""

from golf_fast.report.trackers.kinds import NAMES, require_installed
from golf_fast.report.trackers.thread import Trackers

__all__ = ["NAMES", "Trackers", "require_installed"]
