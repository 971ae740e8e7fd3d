"""What a run says and leaves behind: lines, metrics, a live display, the result, tables and one HTML page."""

from golf_fast.report.page import write_html
from golf_fast.report.result import Result
from golf_fast.report.run_log import RunLog
from golf_fast.report.table import table

__all__ = ["Result", "RunLog", "table", "write_html"]
