"""How a program of this package tells a person that their input is wrong."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn


class InputError(ValueError):
    """What the user gave is wrong. The message is one line: the thing, the value, and what would be right."""


def exit_with(main: Callable[[], None]) -> NoReturn:
    """Run `main` and exit: with 2 and one line on stderr after an `InputError`, with 130 after Ctrl-C.

    A reader of stdout that goes away (`| head`) ends the program without a word.
    """
    try:
        main()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it flushes
        sys.exit(1)
    sys.exit(0)
