"""Corpora as lists of documents, which are cut to size, deduplicated and split into training and validation."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from golf_fast.errors import InputError

Progress = Callable[[str, float, float], None]
"""Called with the name of a stage, the amount done, and the total amount."""

DOCUMENT_BYTES = 20_000
"""Approximate size in UTF-8 bytes of the documents that long texts are cut into."""

_ENDS = (
    re.compile(r"(?<=\n)(?=[ \t]*\r?\n)"),  # a blank line
    re.compile(r"(?<=\n)"),
    re.compile(r"(?<=[\r\v\f\x1c-\x1e\x85\u2028\u2029])(?!\n)"),  # the other line ends of Unicode
    re.compile(r"(?<=[ \t])"),
)
"""Patterns of places where a text may be cut, the best first."""


def no_progress(stage: str, done: float, total: float) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Corpus:
    """Documents that have a name and a hash before they are read.

    Attributes:
        name: a short plain name, used as part of a folder's name.
        origin: name of the source for people.
        sha256: hash of the source's raw bytes and of how they are cut.
        documents: function that reads the documents, in source order.
        left_out: text on what of the source is not read, with counts; "": nothing is left out.
    """

    name: str
    origin: str
    sha256: str
    documents: Callable[[Progress], list[str]]
    left_out: str = ""


@dataclass(frozen=True)
class Split:
    """Training documents and held-out documents, both in shuffled order, and the number of dropped duplicates."""

    train: list[str]
    val: list[str]
    repeats: int


def cut(text: str, limit: int = DOCUMENT_BYTES) -> list[str]:
    """Cut a text of more than twice `limit` UTF-8 bytes into pieces of at least `limit`, at blank lines.

    If there is no blank line within reach, it is cut at any line end, else at a space, else between two characters. The
    pieces joined are the text.
    """
    pieces = [text]
    for end in (*_ENDS, None):
        if all(_short(piece, limit) for piece in pieces):
            break
        pieces = [
            part
            for piece in pieces
            for part in ([piece] if _short(piece, limit) else _gather(_split(piece, end, limit), limit))
        ]
    return pieces


def _short(text: str, limit: int) -> bool:
    return len(text) <= 2 * limit and len(text.encode()) <= 2 * limit


def _split(text: str, end: re.Pattern[str] | None, limit: int) -> list[str]:
    """The text split at `end` into parts that are not cut further; without an `end`, into runs of characters."""
    if end is not None:
        return end.split(text)
    step = max(1, limit // 4)  # of at most four bytes each
    return [text[start : start + step] for start in range(0, len(text), step)]


def _gather(parts: Iterable[str], limit: int) -> list[str]:
    pieces: list[str] = []
    held: list[str] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part.encode())
        if size >= limit:
            pieces.append("".join(held))
            held, size = [], 0
    if held and pieces and size < limit // 4:
        pieces[-1] += "".join(held)
    elif held:
        pieces.append("".join(held))
    return [piece for piece in pieces if piece]


def split(documents: list[str], val_fraction: float, origin: str) -> Split:
    """Drop exact duplicates, order the rest by hash, and hold out the first ones up to `val_fraction` of the bytes.

    Ordering by SHA-256 is a shuffle without a generator, which is the same on every machine and version.

    Args:
        documents: at least two different documents.
        val_fraction: share of the UTF-8 bytes to hold out; each part gets at least one document.
        origin: name of the source for error messages.

    Raises:
        InputError: fewer than two different documents.
    """
    by_hash = {hashlib.sha256(text.encode()).digest(): text for text in documents}
    if len(by_hash) < 2:
        raise InputError(
            f"{origin}: {len(by_hash)} different document(s); at least 2 are needed, one of them to hold out"
        )
    shuffled = [by_hash[key] for key in sorted(by_hash)]
    sizes = [len(text.encode()) for text in shuffled]
    wanted = val_fraction * sum(sizes)
    held, count = sizes[0], 1
    while count < len(sizes) - 1 and held + sizes[count] / 2 <= wanted:
        held += sizes[count]
        count += 1
    return Split(train=shuffled[count:], val=shuffled[:count], repeats=len(documents) - len(by_hash))
