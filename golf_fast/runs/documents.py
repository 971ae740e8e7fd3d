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
    """What the file holds. Target i is validation token i + 1; a document begins at its BOS token, and its targets are
    the tokens after that, with the BOS of the next."""

    tokens_sha256: str
    """SHA-256 of the validation tokens, as little-endian 16-bit words."""
    targets: int
    """How many targets were scored."""
    starts: list[int]
    """The first target of each document, in order; the first document begins at 0, cut or not."""
    bytes: list[int]
    """Bytes of the text of each document."""
    shown: dict[str, list[str]]
    """Number of a document, from 0 -> the text of each of its first targets, hardest document first, easiest last."""
    texts: tuple[str, ...] = later(())
    """The first 16 hexadecimal digits of the SHA-256 of the text of each document, as its bytes are decoded, which is
    the same whatever the tokenizer; none where an earlier version wrote the file."""

    def __post_init__(self) -> None:
        require(0 < len(self.starts) == len(self.bytes), "starts", len(self.starts), f"{len(self.bytes)}, as of bytes")
        rising = all(before < after for before, after in pairwise([-1, *self.starts, self.targets]))
        require(rising and self.starts[0] == 0, "starts", self.starts[:3], "0 first, then rising below targets")
        require(len(self.texts) in (0, len(self.starts)), "texts", len(self.texts), f"{len(self.starts)}, as of starts")
        for number in self.shown:
            known = number.isascii() and number.isdigit() and int(number[:10]) < len(self.starts)
            require(known, "shown", number, f"the number of a document, below {len(self.starts)}")

    def span(self, document: int) -> tuple[int, int]:
        """The first target of a document, and the first after it."""
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
