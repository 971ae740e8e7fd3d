"""Reports of runs: log lines, metrics, a live display, tables and an HTML page."""

from golf_fast.report.page import write_html, write_pictures
from golf_fast.report.run_log import RunLog
from golf_fast.report.table import table

__all__ = ["RunLog", "table", "write_html", "write_pictures"]
