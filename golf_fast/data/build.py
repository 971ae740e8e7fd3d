"""Builds a folder with a tokenizer, shards and a manifest from documents."""

import contextlib
import hashlib
import json
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from golf_fast import json_files
from golf_fast.checks import require
from golf_fast.data.case_ops import CaseOps
from golf_fast.data.documents import Corpus, Progress, no_progress, split
from golf_fast.data.shards import SHARD_TOKENS, Tokens, side_car, write_shard
from golf_fast.data.tokenizer import Tokenizer, require_vocab_size, train_tokenizer
from golf_fast.data.validation import count_bytes
from golf_fast.errors import InputError, printable
from golf_fast.files import locked, reason, replacing, sha256, sync_folder
from golf_fast.from_plain import from_plain

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.model"
_FULL_HASH_BYTES = 64 * 1024 * 1024
"""Greatest size in bytes of built folders whose files are checked against their hashes before they are reused."""

_BUILDING, _DAMAGED = ".building-", ".damaged-"
_SWEEP_SECONDS = 60
"""Age in seconds below which a temporary folder of another builder is never removed."""

_FORMAT = 1
"""Version of the built files, which is raised when the same corpus would give different files."""


@dataclass(frozen=True)
class Built:
    """A built folder, its manifest, and whether it existed already."""

    folder: Path
    manifest: dict[str, Any]
    reused: bool


def build_corpus(
    corpus: Corpus,
    vocab_size: int,
    val_fraction: float,
    root: Path,
    progress: Progress = no_progress,
    case_ops: CaseOps | None = None,
) -> Built:
    """Train a tokenizer on a corpus and write both parts as shards, unless this was done before.

    The folder below `root` is named after what determines its content and appears atomically; two runs that build it at
    the same time do not interfere. The same corpus gives the same files.

    Args:
        corpus: the corpus, of at least two documents.
        vocab_size: number of entries of the tokenizer, which is trained on the training part only.
        val_fraction: share of the bytes to hold out.
        root: the folder of all built folders.
        case_ops: transform of the text; the bytes of each held-out token are then written to a side-car.

    Raises:
        InputError: too little text, wrong text, or a folder that cannot be written.
    """
    require_vocab_size(vocab_size, case_ops)
    key = f"{_FORMAT} {corpus.sha256} {vocab_size} {val_fraction} {sentencepiece.__version__}"
    if case_ops:
        key += f" {case_ops!a}"
    folder = root / f"{corpus.name}-{vocab_size}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    manifest = sound_manifest(folder)
    if manifest is not None:
        return Built(folder, manifest, reused=True)
    _sweep(root)
    work = _new_folder(root, _BUILDING)
    try:
        with locked(work):  # tells other builders that this one is alive
            manifest = _fill(work, corpus, vocab_size, val_fraction, progress, case_ops)
            _install(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Built(folder, manifest, reused=False)


def _new_folder(root: Path, prefix: str) -> Path:
    """Create a folder with a unique name and the user's default mode."""
    folder = root / f"{prefix}{secrets.token_hex(6)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({reason(error)}); name another in data.built") from error
    return folder


def _sweep(root: Path) -> None:
    """Remove temporary folders of killed builders in `root`: those that are unlocked and not just being created."""
    with contextlib.suppress(OSError):
        for folder in [*root.glob(f"{_BUILDING}*"), *root.glob(f"{_DAMAGED}*")]:
            if time.time() - folder.stat().st_mtime > _SWEEP_SECONDS:
                with locked(folder) as holder:
                    if holder == "us":
                        shutil.rmtree(folder, ignore_errors=True)


def _install(work: Path, folder: Path) -> None:
    """Rename `work` to `folder`; if another run was first, its folder is kept if it is sound, and else replaced."""
    for _ in range(3):
        try:
            work.rename(folder)
            sync_folder(folder.parent)
            return
        except OSError as error:
            if not folder.exists():
                raise InputError(f"{folder}: cannot be written ({reason(error)})") from error
        if sound_manifest(folder) is not None:
            return
        damaged = _new_folder(folder.parent, _DAMAGED)
        try:
            folder.rename(damaged / folder.name)
        except FileNotFoundError:
            continue  # another run is installing it too
        finally:
            shutil.rmtree(damaged, ignore_errors=True)
    raise InputError(f"{folder}: cannot be replaced; remove it")


@dataclass(frozen=True)
class _Part:
    documents: int
    bytes: int
    tokens: int
    shards: list[str]


@dataclass(frozen=True)
class _Manifest:
    """The fields of a manifest that are used."""

    corpus: str
    corpus_sha256: str
    vocab_size: int
    tokenizer: str
    train: _Part
    val: _Part
    files: dict[str, dict[str, int | str]]

    def __post_init__(self) -> None:
        for name in (self.tokenizer, *self.train.shards, *self.val.shards):
            require(name in self.files and Path(name).name == name, "a file", ascii(name), "listed in files, no path")


def sound_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest, if every file that it lists exists with its size and, in small folders, its hash; else None."""
    try:
        manifest = json_files.read_object(folder / MANIFEST, "the manifest of a built folder is needed")
        from_plain(_Manifest, manifest, folder / MANIFEST, lenient=True)
        files: dict[str, dict[str, Any]] = manifest["files"]
        small = sum(entry["bytes"] for entry in files.values()) <= _FULL_HASH_BYTES
        for name, entry in files.items():
            if (folder / name).stat().st_size != entry["bytes"]:
                return None
            if small and sha256(folder / name) != entry["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest


def listed_hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of each file, by name, in the manifest of a built folder; empty if there is no such manifest."""
    try:
        files = json_files.read_object(path, "a manifest is needed")["files"]
        return {name: printable(entry["sha256"]) for name, entry in files.items()}
    except (InputError, KeyError, TypeError, AttributeError):
        return {}


def _fill(
    work: Path, corpus: Corpus, vocab_size: int, val_fraction: float, progress: Progress, case_ops: CaseOps | None
) -> dict[str, Any]:
    parts = split(corpus.documents(progress), val_fraction, corpus.origin)
    progress("train tokenizer", 0, 1)
    train_tokenizer(parts.train, vocab_size, work / TOKENIZER, case_ops)
    progress("train tokenizer", 1, 1)
    tokenizer = Tokenizer(work / TOKENIZER)
    corpus_hash = hashlib.sha256()
    described: dict[str, Any] = {}
    beside: list[str] = []
    for part, documents in (("train", parts.train), ("val", parts.val)):
        shards, count, size = [], 0, 0
        for number, tokens in enumerate(_sharded(_encoded(tokenizer, documents, part, progress))):
            shards.append(f"text_{part}_{number:06d}.bin")
            write_shard(work / shards[-1], tokens)
            count += tokens.size
        if part == "val" and case_ops:
            numbers = (_bytes_of(tokenizer, text) for text in documents)
            for shard, pieces in zip(shards, _sharded(numbers), strict=True):
                beside.append(side_car(work / shard).name)
                write_shard(work / beside[-1], pieces)
        for text in documents:
            content = text.encode()
            size += len(content)
            corpus_hash.update(len(content).to_bytes(8, "little") + content)
        described[part] = {"documents": len(documents), "bytes": size, "tokens": count, "shards": shards}
    files = [TOKENIZER, *described["train"]["shards"], *described["val"]["shards"], *beside]
    manifest = {
        "format": _FORMAT,
        "corpus": corpus.name,
        "origin": corpus.origin,
        "left_out": corpus.left_out,
        "source_sha256": corpus.sha256,
        "corpus_sha256": corpus_hash.hexdigest(),
        "vocab_size": vocab_size,
        "val_fraction": val_fraction,
        "repeated_documents_dropped": parts.repeats,
        "tokenizer": TOKENIZER,
        **described,
        "files": {name: {"bytes": (work / name).stat().st_size, "sha256": sha256(work / name)} for name in files},
        "python": platform.python_version(),
        "sentencepiece": sentencepiece.__version__,
    }
    with replacing(work / MANIFEST, "w") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")
    return manifest


def _encoded(tokenizer: Tokenizer, documents: list[str], part: str, progress: Progress) -> Iterator[Tokens]:
    """The tokens of each document, preceded by BOS."""
    for number, text in enumerate(documents, start=1):
        yield _encode(tokenizer, text, f"{part} document {number}")
        if number % 32 == 0 or number == len(documents):
            progress(f"encode {part}", number, len(documents))


def _bytes_of(tokenizer: Tokenizer, text: str) -> Tokens:
    """The number of bytes of a document that each of its tokens stands for, starting with BOS."""
    tokens = np.array([tokenizer.bos_id, *tokenizer.encode(text)], np.uint16)
    return np.concatenate([np.zeros(1, np.uint16), count_bytes(tokens, tokenizer.token_bytes())])


def _sharded(arrays: Iterator[Tokens]) -> Iterator[Tokens]:
    """The tokens of all arrays, regrouped into arrays of `SHARD_TOKENS` and a shorter last one."""
    held: list[Tokens] = []
    size = 0
    for tokens in arrays:
        while size + tokens.size >= SHARD_TOKENS:
            room = SHARD_TOKENS - size
            yield np.concatenate([*held, tokens[:room]])
            held, size, tokens = [], 0, tokens[room:]
        held.append(tokens)
        size += tokens.size
    if size:
        yield np.concatenate(held)


def _encode(tokenizer: Tokenizer, text: str, name: str) -> Tokens:
    """BOS and the tokens of a document, after a check that they decode to its bytes and count as many."""
    tokens = np.array([tokenizer.bos_id, *tokenizer.encode(text)], np.uint16)
    content = text.encode()
    counted = int(tokenizer.token_bytes().along(tokens).sum())
    assert counted == len(content), f"{name}: {len(content)} bytes counted as {counted}: {text[:60]!r}"
    assert tokenizer.decode_bytes(tokens) == content, f"{name}: its tokens decode to another text: {text[:60]!r}"
    return tokens
