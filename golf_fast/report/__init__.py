"""What a run says and leaves behind: lines, metrics, a live display, the result, tables and one HTML page."""

from golf_fast.report.page import write_html
from golf_fast.report.result import Result
from golf_fast.report.run_directory import new_run_directory
from golf_fast.report.run_log import RunLog
from golf_fast.report.table import table

__all__ = ["Result", "RunLog", "new_run_directory", "table", "write_html"]
