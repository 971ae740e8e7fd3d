"""Chooses the data of a run, with a reason, and checks them."""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf_fast.config import DataConfig
from golf_fast.data.build import MANIFEST, TOKENIZER, Built, build_corpus, listed_hashes, sound_manifest
from golf_fast.data.case_ops import OURS
from golf_fast.data.corpus import embedded_corpus
from golf_fast.data.documents import Corpus, Progress, no_progress
from golf_fast.data.loader import TokenStream
from golf_fast.data.shards import HEADER_BYTES, Shard, Tokens, find_shards, shard_tokens, side_cars
from golf_fast.data.text import require_text, text_corpus
from golf_fast.data.tokenizer import MAX_PIECE_BYTES, Tokenizer
from golf_fast.data.validation import Validation
from golf_fast.errors import InputError
from golf_fast.files import open_regular, sha256

_FULL_HASH_BYTES = 64 * 1024 * 1024
"""Greatest total size in bytes of shards whose fingerprint covers their content; for more it covers sizes and
headers."""

DOUBTED_TOKENS = 200_000
"""Number of tokens at the beginning of a shard by which it is checked that the tokenizer matches."""


@dataclass(frozen=True)
class Dataset:
    """Shards to train on, shards held out, and their tokenizer.

    Attributes:
        name: name of the corpus or of the folder of shards.
        train_shards, val_shards: paths of the shards, in name order.
        tokenizer_path: path of the SentencePiece model.
        vocab_size: number of entries of the tokenizer; all token ids are smaller.
        fingerprint: hexadecimal SHA-256 that is equal for the same data.
        why: one sentence on the source of the data and the reason for it.
    """

    name: str
    train_shards: list[Path]
    val_shards: list[Path]
    tokenizer_path: Path
    vocab_size: int
    fingerprint: str
    why: str

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, read from its file."""
        return Tokenizer(self.tokenizer_path)

    def train_tokens(self) -> int:
        """Number of tokens in the training shards."""
        return sum(shard_tokens(path) for path in self.train_shards)

    def train_stream(self) -> TokenStream:
        """The training tokens from their beginning."""
        return TokenStream(self.train_shards, self.vocab_size)

    def val_tokens(self, window: int) -> Tokens:
        """The validation tokens joined, uint16 [window * floor((n - 1) / window) + 1].

        Raises:
            InputError: fewer than window + 1 tokens, or an id beyond the vocabulary.
        """
        stream = TokenStream(self.val_shards, self.vocab_size)
        if stream.tokens <= window:
            raise InputError(
                f"{self.val_shards[0].parent}: {stream.tokens} validation tokens; "
                f"a window of {window} needs at least {window + 1}"
            )
        return stream.take(window * ((stream.tokens - 1) // window) + 1)

    def validation(self, window: int) -> Validation:
        """The validation tokens as in `val_tokens`, with the bytes that each stands for.

        The bytes are those of the shards' side-cars if there are any, else those of the tokenizer.

        Raises:
            InputError: as `val_tokens`; or side-cars do not match their shards.
        """
        tokens = self.val_tokens(window)
        beside = side_cars(self.val_shards)
        if not beside:
            return Validation.counted(tokens, self.tokenizer().token_bytes())
        return Validation.recorded(tokens, TokenStream(beside, MAX_PIECE_BYTES + 1).take(len(tokens)))

    def train_text(self, limit_bytes: int) -> bytes | None:
        """The training text as UTF-8, documents joined with nothing between; None if it is longer than the limit."""
        if self.train_tokens() > limit_bytes:  # every token except BOS stands for at least a byte
            return None
        text = self.tokenizer().decode_bytes(self.train_stream().take(self.train_tokens()))
        return text if len(text) <= limit_bytes else None

    def val_text(self, tokens: Tokens) -> bytes:
        """The UTF-8 text of tokens 1 to n - 1 of [n], the scored ones; as long as `TokenBytes` counts."""
        tokenizer = self.tokenizer()
        first = tokenizer.decode_bytes(tokens[:1])
        return tokenizer.decode_bytes(tokens)[len(first) :]


def prepare(data: DataConfig, vocab_size: int, has_gpu: bool, progress: Progress = no_progress) -> Dataset:
    """Choose the source of the data, build them if necessary, and check them against the model's vocabulary.

    A second call finds what the first has built, so the ranks of a run can call it one after the other.

    Args:
        data: the data settings.
        vocab_size: vocabulary size of the model, which a built tokenizer gets and an existing one must have.
        has_gpu: whether the run uses a GPU, in which case `auto` does not fall back to the embedded corpus.
        progress: called with stage, done and total.

    Raises:
        InputError: the source is missing, damaged, too small, or made for another vocabulary.
    """
    source, reason = _resolve(data, has_gpu)
    if source == "shards":
        return _from_shards(data, vocab_size, reason)
    corpus = embedded_corpus() if source == "embedded" else text_corpus(_given(data.text))
    built = build_corpus(corpus, vocab_size, data.val_fraction, data.built, progress, OURS if data.case_ops else None)
    return _from_built(built, corpus, reason)


def require_source(data: DataConfig, has_gpu: bool) -> None:
    """Check what takes no time before `prepare`, which checks all: whether the source of the data is there.

    Args:
        data: the data settings.
        has_gpu: as for `prepare`.

    Raises:
        InputError: the text, the folder of shards, or their tokenizer is not there.
    """
    source, _ = _resolve(data, has_gpu)
    if source == "text":
        require_text(_given(data.text))
    elif source == "shards":
        find_shards(data.shards, "train")
        find_shards(data.shards, "val")
        open_regular(data.tokenizer, "the tokenizer of the shards is needed").close()


def find(data: DataConfig, fingerprint: str) -> Dataset | None:
    """Existing data with this fingerprint, among the shards and built folders that `data` names; nothing is built.

    No text is read, since the manifest of a built folder describes its content.
    """
    found: list[Dataset] = []
    with contextlib.suppress(InputError):
        if data.shards.is_dir():
            found.append(_from_shards(data, Tokenizer(data.tokenizer).vocab_size, "it was looked for"))
    folders = sorted(path.parent for path in data.built.glob(f"*/{MANIFEST}")) if data.built.is_dir() else []
    for folder in folders:
        with contextlib.suppress(InputError):
            if (manifest := sound_manifest(folder)) is not None:
                found.append(_in_folder(folder, manifest, manifest["corpus"], f"found in {folder}"))
    return next((dataset for dataset in found if dataset.fingerprint == fingerprint), None)


def _given(path: Path | None) -> Path:
    assert path is not None, "DataConfig checks it"
    return path


def _resolve(data: DataConfig, has_gpu: bool) -> tuple[str, str]:
    """The source, and the reason for it."""
    if data.source != "auto":
        return data.source, f"data.source is {data.source}"
    if data.text is not None:
        return "text", "data.text is given"
    if data.shards.exists():
        return "shards", f"{data.shards} is there"
    if data.shards != DataConfig().shards:
        raise InputError(f"{data.shards}: no such folder of shards; name one that exists in data.shards")
    if has_gpu:
        raise InputError(
            f"{data.shards}: no such folder of shards; get them with `python -m golf_fast.data fetch`, "
            "or train on a text (--data.text PATH) or on Python's documentation (--data.source embedded)"
        )
    return "embedded", f"there is neither data.text, nor {data.shards}, nor a GPU"


def _from_shards(data: DataConfig, vocab_size: int, reason: str) -> Dataset:
    train, val = find_shards(data.shards, "train"), find_shards(data.shards, "val")
    count = sum(path.name.startswith(".") for path in data.shards.iterdir())
    hidden = f"{count} hidden" if count else ""
    counts = {part: sum(shard_tokens(path) for path in paths) for part, paths in (("train", train), ("val", val))}
    tokenizer = Tokenizer(data.tokenizer)
    if tokenizer.vocab_size != vocab_size:
        raise InputError(
            f"{data.tokenizer}: {tokenizer.vocab_size} pieces, but model.vocab_size is {vocab_size}; they must be equal"
        )
    small = sum(path.stat().st_size for path in (*train, *val)) <= _FULL_HASH_BYTES
    _compare_with_manifest([*([*train, *val] if small else val), *side_cars(val)], tokenizer)
    return Dataset(
        name=data.shards.name,
        train_shards=train,
        val_shards=val,
        tokenizer_path=data.tokenizer,
        vocab_size=vocab_size,
        fingerprint=_fingerprint([*train, *val, *side_cars(val)], tokenizer.sha256),
        why=f"shards of {data.shards}, {counts['train']:,} tokens to train on and {counts['val']:,} held out: "
        f"{reason}{_left_out(hidden)}{_warned(tokenizer.doubt(Shard(train[0]).read(0, DOUBTED_TOKENS)))}",
    )


def _compare_with_manifest(shards: list[Path], tokenizer: Tokenizer) -> None:
    """Check that shards in a built folder, and the tokenizer, are those that its manifest lists.

    Raises:
        InputError: they are not; the message names the manifest and the difference.
    """
    path = shards[0].parent / MANIFEST
    hashes = listed_hashes(path)
    theirs = hashes.get(TOKENIZER)
    if theirs is not None and theirs != tokenizer.sha256:
        raise InputError(
            f"{tokenizer.path}: has SHA-256 {tokenizer.sha256[:12]}, but by {path} the shards beside it were made with "
            f"{theirs[:12]}: use {path.parent / TOKENIZER}"
        )
    for shard in shards:
        wanted = hashes.get(shard.name)
        if wanted is not None and (found := sha256(shard)) != wanted:
            raise InputError(f"{shard}: has SHA-256 {found[:12]}, but {path} says {wanted[:12]}: get or build it again")


def _from_built(built: Built, corpus: Corpus, reason: str) -> Dataset:
    folder, manifest = built.folder, built.manifest
    whole = manifest["train"]["bytes"] + manifest["val"]["bytes"]
    documents = manifest["train"]["documents"] + manifest["val"]["documents"]
    why = (
        f"{corpus.origin}, {whole:,} bytes in {documents:,} documents with {manifest['val']['documents']:,} held "
        f"out, {'found' if built.reused else 'built'} in {folder}: {reason}{_left_out(corpus.left_out)}"
    )
    return _in_folder(folder, manifest, corpus.name, why)


def _in_folder(folder: Path, manifest: dict[str, Any], name: str, why: str) -> Dataset:
    train, val = ([folder / shard for shard in manifest[part]["shards"]] for part in ("train", "val"))
    tokenizer = folder / manifest["tokenizer"]
    return Dataset(
        name=name,
        train_shards=train,
        val_shards=val,
        tokenizer_path=tokenizer,
        vocab_size=manifest["vocab_size"],
        fingerprint=_fingerprint([*train, *val, *side_cars(val)], f"{sha256(tokenizer)} {manifest['corpus_sha256']}"),
        why=why,
    )


def _warned(doubt: str) -> str:
    return f"; WARNING: {doubt}" if doubt else ""


def _left_out(what: str) -> str:
    return f"; left out: {what}" if what else ""


def _fingerprint(shards: list[Path], extra: str) -> str:
    digest = hashlib.sha256(f"{extra}\0".encode())
    sizes = [path.stat().st_size for path in shards]
    contents = sum(sizes) <= _FULL_HASH_BYTES
    for path, size in zip(shards, sizes, strict=True):
        with open_regular(path, "a token shard is needed") as file:
            seen = file.read() if contents else file.read(HEADER_BYTES)
        digest.update(f"{path.name} {size} {hashlib.sha256(seen).hexdigest()}\0".encode())
    return digest.hexdigest()
