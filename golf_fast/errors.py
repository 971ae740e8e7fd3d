"""How it is said that what a person gave is wrong."""

import re

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters, line ends, what turns the direction of a line or is not seen, and halves of surrogate pairs."""


class InputError(ValueError):
    """What the user gave is wrong. The message is one line: the thing, the value, and what would be right."""


class StoppedError(RuntimeError):
    """What ends a program and is neither its user's fault nor ours, such as a machine that is gone. The message is one
    line: the thing, and what happened to it.
    """


def printable(text: object, keep: str = "") -> str:
    """`text` with every character that would not stand as itself on a line of a terminal escaped (`\\x1b`).

    Names and words that come from a file or a server go through this on their way to a person: they could move the
    cursor, clear the screen or set the title of the window.

    Args:
        text: anything; its `str` is taken.
        keep: characters to leave as they are, such as the line end.
    """

    def escaped(found: re.Match[str]) -> str:
        character = found[0]
        return character if character in keep else character.encode("unicode_escape").decode("ascii")

    return _UNPRINTABLE.sub(escaped, str(text))
