"""Reads documents from a user's own files: text, JSON records, or a folder of them."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from golf_fast import json_files
from golf_fast.data.documents import DOCUMENT_BYTES, Corpus, Progress, cut, no_progress
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, reason, sha256

_RECORD_SUFFIXES = frozenset({".jsonl", ".ndjson", ".jsonlines"})
TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text", ".json", "", *_RECORD_SUFFIXES})
"""Suffixes of the files of a folder that are read; a file that is named directly is read whatever its suffix."""

_NEEDED = "a file of text is needed"
_RECORDS = 'each line is an object with a string named "text"'
_BLANK = b"\xef\xbb\xbf \t\r\n"
"""The bytes of a byte order mark and of the white space that may precede JSON."""
_PACKED = {
    b"\x1f\x8b": "gzip-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
"""Descriptions of packed formats that are not plain text, by their first bytes, for error messages."""


def text_corpus(path: Path) -> Corpus:
    """The documents of a text file, of JSON records (objects with a "text"), or of a folder of such files.

    A text file is one document; if it is long, it is cut at blank lines. JSON records, one per line or in one list, are
    recognised by the content of the file. Folders are read recursively, in name order, following symbolic links; hidden
    files and those without a suffix in `TEXT_SUFFIXES` are left out and counted.

    Raises:
        InputError: nothing there, an empty file, a folder without text, a file or folder that may not be read or is a
            pipe or a device, bytes that are not UTF-8 (when the documents are read), a line that is not such an object.
    """
    found = _found(path)
    digest = hashlib.sha256(b"text 2\0")
    for file in found.files:
        relative = file.name if file == path else file.relative_to(path).as_posix()
        digest.update(f"{relative}\0{sha256(file, _NEEDED)}\0".encode("utf-8", "surrogateescape"))

    def documents(progress: Progress = no_progress) -> list[str]:
        return read_documents(found.files, progress)

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.resolve().stem).strip("-") or "text"
    return Corpus(name[:40], str(path), digest.hexdigest(), documents, found.left_out())


@dataclass
class _Found:
    """The text files of a folder in name order, and the numbers of other files by kind."""

    files: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def left_out(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in sorted(self.others.items()))


def require_text(path: Path) -> bool:
    """Check, without reading it, that a text is there and is not empty; returns whether it is a folder.

    Raises:
        InputError: nothing is there, it may not be looked at, or it is an empty file.
    """
    try:
        folder = path.is_dir()
        present = folder or os.path.lexists(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); {_NEEDED}") from error
    if not present:
        raise InputError(f"{path}: no such file or folder; name a text file, a .jsonl file or a folder of them")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: empty (0 bytes); a text file with something in it is needed")
    return folder


def _found(path: Path) -> _Found:
    if not require_text(path):
        return _Found([path])
    found = _Found()
    for file in _walk(path, found.others):
        kind = _not_text(file)
        if kind:
            found.others[kind] += 1
        else:
            found.files.append(file)
    if not found.files:
        wanted = ", ".join(sorted(suffix for suffix in TEXT_SUFFIXES if suffix))
        held = found.left_out() or "nothing"
        raise InputError(f"{path}: no file in it holds text; files ending in {wanted} are read; it holds {held}")
    found.files.sort()
    return found


def _walk(root: Path, others: Counter[str]) -> Iterator[Path]:
    """Every file below a folder that is not hidden; each folder is visited once, whatever links lead to it."""
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:
                others["folder(s) that a link leads to again"] += 1
                continue
            seen.add((about.st_dev, about.st_ino))
            entries = sorted(folder.iterdir(), reverse=True)
            for entry in entries:
                if entry.name.startswith("."):
                    others["hidden"] += 1
                elif entry.is_dir():
                    waiting.append(entry)
                else:
                    yield entry
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({reason(error)}); move it away, or let it be read") from error


def _not_text(file: Path) -> str:
    """The kind of a file that is not text; "" for a text file."""
    suffix = file.suffix.lower()
    if suffix not in TEXT_SUFFIXES:
        return f"ending in {suffix}"
    if file.is_symlink() and not file.exists():
        return "link(s) that lead nowhere"
    if file.is_file() and file.stat().st_size == 0:
        return "empty"
    if suffix == ".json" and _json_texts(file, read_bytes(file, _NEEDED)) is None:
        return 'ending in .json without a "text"'
    return ""


def read_documents(files: list[Path], progress: Progress = no_progress) -> list[str]:
    """All documents of the files, in order.

    So that a small text can be split too, a text counts as long from a fiftieth of the total size (at least 1 kB).

    Raises:
        InputError: a file is not UTF-8, a JSON record is wrong, or all files contain only white space.
    """
    total = sum(file.stat().st_size for file in files)
    limit = min(DOCUMENT_BYTES, max(1_000, total // 50))
    done = 0
    documents: list[str] = []
    for file in files:
        content = read_bytes(file, _NEEDED)
        texts = _json_texts(file, content)
        documents += cut(_decode(file, content), limit) if texts is None else texts
        done += len(content)
        progress("read text", done, total)
    documents = [text for text in documents if text.strip()]
    if not documents:
        raise InputError(f"{files[0]}: no text in {len(files)} file(s) of {total} bytes; only white space")
    return documents


def _decode(file: Path, content: bytes) -> str:
    for magic, kind in _PACKED.items():
        if content.startswith(magic):
            raise InputError(f"{file}: is {kind}, not UTF-8; unpack it or save it as UTF-8 text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: not UTF-8 at byte {error.start} (0x{content[error.start]:02x}); save it as UTF-8"
        ) from error


def _json_texts(file: Path, content: bytes) -> list[str] | None:
    """The texts of JSON records; None if the file does not contain records, and is a text itself.

    Raises:
        InputError: the file begins with records or has a suffix of record files, and is not valid throughout.
    """
    suffix = file.suffix.lower()
    if suffix in _RECORD_SUFFIXES or _first_line_is_a_record(content):
        return _json_lines(file, content)
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{") and (
        suffix == ".json" or content.lstrip()[:1] == b"["
    ):
        try:
            held = json_files.parse(content, str(file), numbers=False)
        except InputError:
            if suffix == ".json":
                raise
            return None
        records = held if isinstance(held, list) else [held]
        if records and all(isinstance(record, dict) and isinstance(record.get("text"), str) for record in records):
            return [_text_of(record, f"{file}: record {number}") for number, record in enumerate(records, start=1)]
    return None


def _first_line_is_a_record(content: bytes) -> bool:
    first = content.lstrip(_BLANK).split(b"\n", 1)[0]
    if not first.startswith(b"{"):
        return False
    try:
        record = json_files.parse(first, "", numbers=False)
    except InputError:
        return False
    return isinstance(record, dict) and isinstance(record.get("text"), str)


def _json_lines(file: Path, content: bytes) -> list[str]:
    texts = []
    whole = _decode(file, content).removeprefix("\ufeff")
    for number, line in enumerate(whole.split("\n"), start=1):
        if line.strip():
            try:
                record = json_files.parse(line, f"{file}: line {number}", numbers=False)
            except InputError as error:
                raise InputError(f"{error}; {_RECORDS}") from error
            texts.append(_text_of(record, f"{file}: line {number}"))
    return texts


def _text_of(record: object, where: str) -> str:
    if not isinstance(record, dict):
        raise InputError(f"{where} is no object; {_RECORDS}")
    if "text" not in record:
        raise InputError(f'{where} has no "text"; {_RECORDS}')
    text = record["text"]
    if not isinstance(text, str):
        raise InputError(f'{where}: its "text" is no string; {_RECORDS}')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half a surrogate pair at character {error.start}; it is not text") from error
    return text
