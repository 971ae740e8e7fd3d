"""F-strings of Python 3.12 for an older parser: those that use their own quotes inside become plain tuples.

A judge needs what is in the braces and not the text that comes out, so `f"{", ".join(a)}"` reads as
`("", (", ".join(a)))`. Lines stay where they are.
"""

from __future__ import annotations

import re

_PREFIX = re.compile(r"(?i)(?:\b(fr|rf|br|rb|f|b|r|u))?(\"\"\"|'''|\"|')")


def plain(text: str) -> str:
    """The text with every f-string as a tuple of its expressions; what cannot be read stays as it is."""
    return _Rewriter(text).code(0, None)[0]


class _Rewriter:
    def __init__(self, text: str) -> None:
        self.text = text

    def code(self, at: int, closing: str | None) -> tuple[str, int]:
        """Rewrite code from `at` to an unbalanced `}` or, where that closes a field, `!r` or `:`; or to the end."""
        text, out, depth = self.text, [], 0
        while at < len(text):
            char = text[at]
            string = _PREFIX.match(text, at)
            if string is not None and (at == 0 or not (text[at - 1].isalnum() or text[at - 1] == "_")):
                piece, at = self.string(string)
                out.append(piece)
                continue
            if char == "#" and closing is None:
                end = text.find("\n", at)
                end = len(text) if end < 0 else end
                out.append(text[at:end])
                at = end
                continue
            if closing is not None and depth == 0 and self._ends(at):
                return "".join(out), at
            depth += (char in "([{") - (char in ")]}")
            out.append(char)
            at += 1
        return "".join(out), at

    def string(self, match: re.Match[str]) -> tuple[str, int]:
        """Rewrite the string that begins at a match, and where it ends."""
        prefix, quote = (match.group(1) or "").lower(), match.group(2)
        if "f" in prefix:
            return self._formatted(match.end(), quote, "r" in prefix)
        at = match.end()
        while at < len(self.text) and not self.text.startswith(quote, at):
            at += 2 if self.text[at] == "\\" else 1
        return self.text[match.start() : at + len(quote)], at + len(quote)

    def _formatted(self, at: int, quote: str, raw: bool) -> tuple[str, int]:
        text, fields, literal = self.text, [], []
        while at < len(text) and not text.startswith(quote, at):
            if text[at] == "\\" and not raw:
                literal.append(text[at : at + 2])
                at += 2
            elif text.startswith(("{{", "}}"), at):
                literal.append(text[at])
                at += 2
            elif text[at] == "{":
                field, at = self._field(at + 1)
                fields.append(field)
            else:
                literal.append(text[at])
                at += 1
        said = repr("".join(literal).replace("\n", " "))
        return f"({', '.join([said, *fields])},)", at + len(quote)

    def _field(self, at: int) -> tuple[str, int]:
        """A field's expression in brackets, and where the text after its brace begins."""
        expression, at = self.code(at, "}")
        inner = []
        while at < len(self.text) and self.text[at] != "}":
            if self.text[at] == "{":
                field, at = self._field(at + 1)
                inner.append(field)
            else:
                at += 1
        expression = expression.rstrip().removesuffix("=") if expression.rstrip().endswith("=") else expression
        return ", ".join([f"({expression})", *inner]), at + 1

    def _ends(self, at: int) -> bool:
        char, text = self.text[at], self.text
        if char == "!":
            return text[at + 1 : at + 2] != "="
        return char == "}" or (char == ":" and text[at + 1 : at + 2] != "=")
