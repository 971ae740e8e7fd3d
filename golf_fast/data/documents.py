"""A corpus is a list of documents; here they are cut to size, freed of repeats and split in two."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from golf_fast.errors import InputError

Progress = Callable[[str, float, float], None]
"""Called with the name of a stage, how much of it is done, and of how much."""

DOCUMENT_BYTES = 20_000
"""Long texts are cut into documents of about this many UTF-8 bytes."""

_ENDS = (
    re.compile(r"(?<=\n)(?=[ \t]*\r?\n)"),  # a blank line
    re.compile(r"(?<=\n)"),
    re.compile(r"(?<=[\r\v\f\x1c-\x1e\x85\u2028\u2029])(?!\n)"),  # the other ends of lines that Unicode knows
    re.compile(r"(?<=[ \t])"),
)
"""Where a text may be cut, best first."""


def no_progress(stage: str, done: float, total: float) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Corpus:
    """Documents that have a name and a hash before they are read.

    Attributes:
        name: a short plain name, part of a folder's name.
        origin: what a person would call the source.
        sha256: of the source's raw bytes and of how they are cut, cheap to compute.
        documents: reads them, in source order.
        left_out: what of the source is not read, with counts, for people; "" if that is nothing.
    """

    name: str
    origin: str
    sha256: str
    documents: Callable[[Progress], list[str]]
    left_out: str = ""


@dataclass(frozen=True)
class Split:
    """Documents to train on and documents held out, both in shuffled order, and how many repeats were dropped."""

    train: list[str]
    val: list[str]
    repeats: int


def cut(text: str, limit: int = DOCUMENT_BYTES) -> list[str]:
    """Cut a text of more than twice `limit` UTF-8 bytes into pieces of at least `limit`, at blank lines.

    Where a blank line is too far away it is cut at the end of a line of any kind, else at a space, and where there is
    none of them either, between two characters. The pieces joined are the text.
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
    """The text in parts that may not be cut themselves; without an `end`, in runs of characters."""
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
    """Drop exact repeats, order the rest by hash, and hold out the first of them up to `val_fraction` of the bytes.

    The order by SHA-256 is a shuffle that needs no generator: it is the same on every machine and version.

    Args:
        documents: at least two different ones.
        val_fraction: share of the UTF-8 bytes to hold out; at least one document stays on each side.
        origin: what the error names.

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
