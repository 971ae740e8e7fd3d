"""Documents from a person's own files: text, JSON lines, or a folder of them."""

import hashlib
import json
import re
from pathlib import Path

from golf_fast.data.documents import DOCUMENT_BYTES, Corpus, Progress, cut, no_progress
from golf_fast.errors import InputError
from golf_fast.files import sha256

TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text", ".jsonl", ""})
"""Which files of a folder are read; a file that is named itself is read whatever its suffix."""


def text_corpus(path: Path) -> Corpus:
    """The documents of a text file, a JSONL file (one object with a "text" a line), or a folder of them.

    A text file is a document, unless it is long: then it is cut at blank lines. Files of a folder are taken
    recursively, in name order; hidden ones and those without a suffix of `TEXT_SUFFIXES` are passed over.

    Raises:
        InputError: nothing there, an empty file, a folder without text, bytes that are not UTF-8 (when the
            documents are read), a line that is not such an object.
    """
    files = _text_files(path)
    digest = hashlib.sha256(b"text 1\0")
    for file in files:
        relative = file.name if file == path else file.relative_to(path).as_posix()
        try:
            digest.update(f"{relative}\0{sha256(file)}\0".encode())
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}); a file of text is needed") from error

    def documents(progress: Progress = no_progress) -> list[str]:
        return read_documents(files, progress)

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.resolve().stem).strip("-") or "text"
    return Corpus(name=name[:40], origin=str(path), sha256=digest.hexdigest(), documents=documents)


def _text_files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; name a text file, a .jsonl file or a folder of them")
    if not path.is_dir():
        if path.stat().st_size == 0:
            raise InputError(f"{path}: empty (0 bytes); a text file with something in it is needed")
        return [path]
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    files = [
        file
        for file in inside
        if file.suffix.lower() in TEXT_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.stat().st_size > 0
    ]
    if not files:
        wanted = ", ".join(sorted(suffix for suffix in TEXT_SUFFIXES if suffix))
        raise InputError(f"{path}: none of its {len(inside)} files holds text; files ending in {wanted} are read")
    return files


def read_documents(files: list[Path], progress: Progress = no_progress) -> list[str]:
    """All documents of the files, in order.

    So that a small text can be split too, what counts as long shrinks to a fiftieth of the whole, not below 1 kB.

    Raises:
        InputError: bytes that are not UTF-8, a wrong JSONL line, or nothing but white space in all files.
    """
    total = sum(file.stat().st_size for file in files)
    limit = min(DOCUMENT_BYTES, max(1_000, total // 50))
    done = 0
    documents: list[str] = []
    for file in files:
        content = file.read_bytes()
        if file.suffix.lower() == ".jsonl":
            documents += _json_lines(file, content)
        else:
            documents += cut(_decode(file, content), limit)
        done += len(content)
        progress("read text", done, total)
    documents = [text for text in documents if text.strip()]
    if not documents:
        raise InputError(f"{files[0]}: no text in {len(files)} file(s) of {total} bytes; only white space")
    return documents


def _decode(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: not UTF-8 at byte {error.start} (0x{content[error.start]:02x}); save it as UTF-8"
        ) from error


def _json_lines(file: Path, content: bytes) -> list[str]:
    texts = []
    whole = _decode(file, content).removeprefix("\ufeff")
    for number, line in enumerate(whole.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f'{file}: line {number} is not JSON ({error.msg}); each line is an object with a "text"'
            ) from error
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise InputError(f'{file}: line {number} has no "text"; each line is an object with a string named "text"')
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{file}: line {number} holds half a surrogate pair at character {error.start}; it is not text"
            ) from error
        texts.append(text)
    return texts
