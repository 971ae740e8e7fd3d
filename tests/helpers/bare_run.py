"""A run without its pages and its code, which take longer than a small run and have tests of their own.

As a program, `python tests/helpers/bare_run.py`, it is `python -m golf_fast.train` without them.
"""

from __future__ import annotations

from collections.abc import Callable

from golf_fast import code_size
from golf_fast.code_size import Code
from golf_fast.console import exit_with
from golf_fast.pipeline import execute
from golf_fast.train.__main__ import main


def leave_out_the_rest(set_attribute: Callable[[object, str, object], None]) -> None:
    """Leave them out from now on: `setattr`, or that of a MonkeyPatch until it is undone."""
    set_attribute(code_size, "code", lambda config: Code(b"code"))
    for name in ("write_html", "write_pictures"):
        set_attribute(execute, name, lambda folder: None)


if __name__ == "__main__":
    leave_out_the_rest(setattr)
    exit_with(main)
