"""Run directories: the names and the content of their files, for writing and reading. Needs no torch."""

from golf_fast.runs.directory import RunDirectory, new_run_directory, run_folder
from golf_fast.runs.finished import FinishedRun
from golf_fast.runs.paths import RunPaths
from golf_fast.runs.result import Result

__all__ = ["FinishedRun", "Result", "RunDirectory", "RunPaths", "new_run_directory", "run_folder"]
