"""Errors that are reported to people in one line, and the escaping of text for terminals."""

import re

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters, line ends, direction marks, invisible characters and halves of surrogate pairs."""


class InputError(ValueError):
    """The input of a user is wrong. The message is one line: the thing, its value, and what would be right."""


class StoppedError(RuntimeError):
    """A program must end for a reason that is neither a user's fault nor a bug, such as a lost machine. The message is
    one line: the thing, and what happened to it.
    """


def printable(text: object, keep: str = "") -> str:
    """`text` with every character escaped (`\\x1b`) that does not print as itself on a line of a terminal.

    It is applied to text from files and servers before it is printed, since that could move the cursor, clear the
    screen or set the title of the window.

    Args:
        text: any object; its `str` is used.
        keep: characters that are not escaped, such as the line end.
    """

    def escaped(found: re.Match[str]) -> str:
        character = found[0]
        return character if character in keep else character.encode("unicode_escape").decode("ascii")

    return _UNPRINTABLE.sub(escaped, str(text))
