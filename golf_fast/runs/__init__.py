"""What a run leaves behind: the names of its files, its result, and taking a directory for it. Needs no torch."""

from golf_fast.runs.directory import RunDirectory, new_run_directory
from golf_fast.runs.paths import RunPaths
from golf_fast.runs.result import Result

__all__ = ["Result", "RunDirectory", "RunPaths", "new_run_directory"]
