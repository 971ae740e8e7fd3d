"""What two runs were scored on in common: the same tokens, or the same text under other tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from golf_fast.errors import InputError
from golf_fast.runs.documents import Documents

_LEAST_BY_SIZE = 4
"""Documents of different sizes that must agree to the byte where no hash says that their text is the same."""


@dataclass(frozen=True)
class Shared:
    """The documents that two runs were scored on alike.

    Attributes:
        documents: numbers of those whose text and bytes are the same, from 0, rising.
        bytes: of these together.
        scored: bytes that each of both runs was scored on.
        targets: tokens that each of both runs was scored on.
        counts: documents that each of both runs was scored on.
        known_by: what says that the text is the same: all tokens; a hash of the text of each document; or that the
            bytes of each agree.
    """

    documents: tuple[int, ...]
    bytes: int
    scored: tuple[int, int]
    targets: tuple[int, int]
    counts: tuple[int, int]
    known_by: Literal["tokens", "text", "bytes"]

    @property
    def same_tokens(self) -> bool:
        """Whether losses of single tokens can be compared too."""
        return self.known_by == "tokens"

    def compared(self, first: str, other: str) -> str:
        """One sentence on what a comparison of the shared documents is of, for other tokens.

        Args:
            first, other: names of both runs, or of several for the other.
        """
        return f"{self._told(first, other)}; compared over {self._what}{self._left}"

    def whole(self, first: str, other: str) -> str:
        """One sentence on how far the scores of both runs are of one text, for other tokens.

        Args:
            first, other: names of both runs, or of several for the other.
        """
        return f"{self._told(first, other)}; {self._what} are in both{self._left}"

    @property
    def _what(self) -> str:
        return f"{len(self.documents):,} of {max(self.counts):,} documents, {self.bytes:,} bytes"

    def _told(self, first: str, other: str) -> str:
        tokens = f"{self.targets[1]:,} against {self.targets[0]:,}"
        sizes = f"{self.scored[1]:,} against {self.scored[0]:,}" if self.scored[0] != self.scored[1] else "the same"
        return f"{other} against {first}: the same text in other tokens ({tokens}), {sizes} bytes of it scored"

    @property
    def _left(self) -> str:
        """Which documents are left out, and what says that the others are the same."""
        paired = min(self.counts)
        left = sorted(set(range(paired)).difference(self.documents))
        said = ""
        if left == [paired - 1]:
            said = ", the last being cut where whole rows of tokens end"
        elif left:
            said = f", {len(left):,} others not being the same to the byte"
        if self.known_by == "bytes":
            said += "; only the bytes of each document say that the text is the same"
        return said


def shared(first: Documents, other: Documents, names: tuple[str, str]) -> Shared:
    """What both runs were scored on, document by document in the order of the stream.

    The last document is often cut, as whole rows of tokens are scored, and a row of other tokens ends elsewhere; and a
    tokenizer that normalizes text may count a document otherwise. Such documents are left out.

    Args:
        names: of both runs, for the error.

    Raises:
        InputError: one line; the text is another one, or no whole document is in both.
    """
    scored, counts = (sum(first.bytes), sum(other.bytes)), (len(first.bytes), len(other.bytes))
    targets = (first.targets, other.targets)
    if (first.tokens_sha256, first.starts, first.bytes) == (other.tokens_sha256, other.starts, other.bytes):
        return Shared(tuple(range(counts[0])), scored[0], scored, targets, counts, "tokens")
    hashed = bool(first.texts and other.texts)
    sizes = zip(first.bytes, other.bytes, strict=False)
    texts = zip(first.texts, other.texts, strict=False) if hashed else [("", "")] * min(counts)
    same = [one == another and text == its for (one, another), (text, its) in zip(sizes, texts, strict=True)]
    alike = [number for number, each in enumerate(same) if each]
    whole = len(same) if same[-1] else len(same) - 1  # but for the last, which may be cut
    if not whole:
        raise InputError(
            f"{names[1]}: shares no whole document with {names[0]}: {scored[1]:,} and {scored[0]:,} bytes were scored, "
            "of one that is cut at different places or is another one; a validation text of more documents is needed"
        )
    distinct = len({first.bytes[number] for number in alike})
    enough = 2 * len(alike) >= whole if hashed else len(alike) == whole and distinct >= _LEAST_BY_SIZE
    if not enough:
        how = "text and bytes" if hashed else "bytes, and no hash of their text,"
        raise InputError(
            f"{names[1]}: was scored on another text than {names[0]}, as far as is known: {len(alike):,} of {whole:,} "
            f"documents are the same by their {how} as recorded; only scores of the same text can be compared"
        )
    return Shared(
        tuple(alike),
        sum(first.bytes[number] for number in alike),
        scored,
        targets,
        counts,
        "text" if hashed else "bytes",
    )


def of_other_tokens(held: Iterable[tuple[str, Shared]]) -> list[tuple[str, Shared]]:
    """What runs share with the first, without those of its tokens; the names of runs that share the same are joined."""
    names: dict[Shared, list[str]] = {}
    for name, each in held:
        if not each.same_tokens:
            names.setdefault(each, []).append(name)
    return [(", ".join(joined), each) for each, joined in names.items()]
