"""How a program of this package tells a person that their input is wrong."""

import sys
from collections.abc import Callable
from typing import NoReturn


class InputError(ValueError):
    """What the user gave is wrong. The message is one line: the thing, the value, and what would be right."""


def exit_with(main: Callable[[], None]) -> NoReturn:
    """Run `main`; on an `InputError` print its one line to stderr and exit with 2, on Ctrl-C exit with 130."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
    sys.exit(0)
