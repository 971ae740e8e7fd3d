"""A reversible transform that removes capitals from text: lower-case letters, and operators that mark what was upper
case.

A tokenizer of such text needs no second piece for a word at the start of a sentence. Each
maximal run of ASCII letters becomes its lower-case letters and operators:

| run | becomes |
|---|---|
| all lower case | itself |
| two or more, all upper case | ALL_CAPS, the letters |
| any other | TITLE if the first is upper case, then the letters with NEXT before each later one that is |

An operator is one character; if the text itself contains such a character, ESCAPE is put before it. Other characters
are not changed, so the transform is reversible for every text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class CaseOps:
    """The four operators, and the position of those that begin a run.

    Attributes:
        title, all_caps, next, escape: one character each, of three UTF-8 bytes.
        before_space: whether TITLE and ALL_CAPS are put before the space that precedes their run, so that a tokenizer
            sees space and letters together, as in text without capitals.
    """

    title: str
    all_caps: str
    next: str
    escape: str
    before_space: bool

    @property
    def characters(self) -> str:
        """The operators in the order of their ids in a tokenizer."""
        return self.title + self.all_caps + self.next + self.escape

    def transform(self, text: str) -> str:
        """The text with operators, and without upper-case ASCII letters."""
        return self._runs.sub(self._lowered, text)

    def restore(self, text: bytes) -> bytes:
        """The UTF-8 text that was transformed.

        Bytes that no transform produces are accepted: an operator without letters to act on is dropped.
        """
        return self._operators.sub(_upper, text)

    @cached_property
    def _runs(self) -> re.Pattern[str]:
        return re.compile(f"{' ?' if self.before_space else ''}[A-Za-z]+|[{self.characters}]")

    @cached_property
    def _operators(self) -> re.Pattern[bytes]:
        title, all_caps, following, escape = (re.escape(character.encode()) for character in self.characters)
        space = b" ?" if self.before_space else b""
        literal = b"|".join((title, all_caps, following, escape))
        return re.compile(
            b"%s(%s)?|(?:%s(%s)|%s)([a-z])?|%s(%s[a-z]*)" % (escape, literal, title, space, following, all_caps, space)
        )

    def _lowered(self, match: re.Match[str]) -> str:
        run = match[0]
        if run in self.characters:
            return self.escape + run
        letters = run.removeprefix(" ")
        space, lower = run[: len(run) - len(letters)], letters.lower()
        if letters == lower:
            return run
        if len(letters) > 1 and letters.isupper():
            return self.all_caps + space + lower
        rest = (self.next + letter.lower() if letter.isupper() else letter for letter in letters[1:])
        return (self.title if letters[0].isupper() else "") + space + lower[0] + "".join(rest)


def _upper(match: re.Match[bytes]) -> bytes:
    literal, space, letter, run = match.groups(default=b"")
    return literal + space + letter.upper() + run.upper()


PUBLISHED = CaseOps("\ue001", "\ue002", "\ue003", "\ue004", before_space=False)
"""The operators of the published tokenizers (#1729)."""
OURS = CaseOps("\ue011", "\ue012", "\ue013", "\ue014", before_space=True)
"""The operators of the tokenizers that this package trains."""
KINDS = (PUBLISHED, OURS)
