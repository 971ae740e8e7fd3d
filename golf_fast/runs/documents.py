"""`documents.json`: the documents that a run was scored on, and the text of some of them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from golf_fast import json_files
from golf_fast.checks import later, require
from golf_fast.files import replacing
from golf_fast.from_plain import from_plain


@dataclass(frozen=True)
class Documents:
    """The content of the file. Target i is validation token i + 1. A document begins at its BOS token; its targets are
    the following tokens, up to and including the BOS of the next document."""

    tokens_sha256: str
    """SHA-256 of the validation tokens, as little-endian 16-bit words."""
    targets: int
    """Number of scored targets."""
    starts: list[int]
    """The first target of each document, in order; the first document begins at 0, cut or not."""
    bytes: list[int]
    """Number of bytes of the text of each document."""
    shown: dict[str, list[str]]
    """For some documents, by their number from 0, the text of each of their first targets; the hardest document comes
    first, the easiest last."""
    texts: tuple[str, ...] = later(())
    """The first 16 hexadecimal digits of the SHA-256 of the decoded text of each document, which does not depend on the
    tokenizer; empty in files of earlier versions."""

    def __post_init__(self) -> None:
        require(0 < len(self.starts) == len(self.bytes), "starts", len(self.starts), f"{len(self.bytes)}, as of bytes")
        rising = all(before < after for before, after in pairwise([-1, *self.starts, self.targets]))
        require(rising and self.starts[0] == 0, "starts", self.starts[:3], "0 first, then rising below targets")
        require(len(self.texts) in (0, len(self.starts)), "texts", len(self.texts), f"{len(self.starts)}, as of starts")
        for number in self.shown:
            known = number.isascii() and number.isdigit() and int(number[:10]) < len(self.starts)
            require(known, "shown", number, f"the number of a document, below {len(self.starts)}")

    def span(self, document: int) -> tuple[int, int]:
        """The range of targets `(first, stop)` of a document, `stop` exclusive."""
        return self.starts[document], [*self.starts[document + 1 : document + 2], self.targets][0]

    def write(self, path: Path) -> None:
        """Write `path` whole or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        with replacing(path, "w") as file:
            json.dump(dataclasses.asdict(self), file, separators=(",", ":"))


def read(path: Path) -> Documents:
    """The documents in `path`.

    Raises:
        InputError: the file is missing, or is not what a run leaves.
    """
    return from_plain(Documents, json_files.read_object(path, "the documents of a run are needed"), path)
