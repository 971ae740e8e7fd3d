"""SentencePiece tokenizers: training lossless ones, and using any."""

import hashlib
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import sentencepiece

from golf_fast.data.case_ops import KINDS, CaseOps
from golf_fast.data.token_bytes import SPACE_MARK, TokenBytes, token_bytes
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, replacing

BOS_ID = 1
"""Id of the token that starts each document."""

MAX_BYTES = 64 << 20
"""Greatest size in bytes of a model; one with 65,536 pieces takes 1 to 2 MB."""

TRAINING_BYTES = 64_000_000
"""Greatest number of bytes of text that a tokenizer is trained on; more would hardly change the merges."""

_FIXED_PIECES = 258  # unknown, BOS and the 256 bytes
_CHARACTER_COVERAGE = 0.9995
_PRIVATE_USE = range(0xE000, 0xF900)
_OPERATORS = frozenset("".join(kind.characters for kind in KINDS))
_NEVER_PIECES = frozenset({"\0", SPACE_MARK, "\u2585"}) | _OPERATORS  # SentencePiece keeps the first for itself


def require_vocab_size(vocab_size: int, case_ops: CaseOps | None = None) -> None:
    """Check that a tokenizer can have this vocabulary size, whatever the text.

    Raises:
        InputError: it is too small for the fixed pieces and one character, or too large for 16-bit tokens.
    """
    least = _FIXED_PIECES + len(case_ops.characters if case_ops else "") + 1
    if not least <= vocab_size <= 65536:
        raise InputError(f"vocabulary size {vocab_size}: it must be from {least} to 65536")


def train_tokenizer(documents: Iterable[str], vocab_size: int, path: Path, case_ops: CaseOps | None = None) -> None:
    """Train a BPE tokenizer with byte fallback and write its model; the same documents give the same bytes.

    Text is not normalized and pieces contain spaces only at their beginning, so that decoding restores the text and the
    byte lengths of `TokenBytes` add up to its length.

    Args:
        documents: the texts, of which at most `TRAINING_BYTES` are read.
        vocab_size: number of entries, at least 259 (unknown, BOS, 256 bytes and one character), with operators 263.
        path: path of the .model file.
        case_ops: transform of the documents; its operators become pieces, by which `Tokenizer` recognises it.

    Raises:
        InputError: the vocabulary is too small, or too large for this text; or the file cannot be written.
    """
    require_vocab_size(vocab_size, case_ops)
    operators = case_ops.characters if case_ops else ""
    fixed = _FIXED_PIECES + len(operators)
    texts = _at_most(documents, TRAINING_BYTES)
    if case_ops:
        texts = [case_ops.transform(text) for text in texts]
    kept = _frequent_characters(texts, vocab_size - fixed)
    rare = re.compile(f"[^{re.escape(''.join(sorted(kept)) + operators)}]+")
    spans = [span for text in texts for span in rare.split(text) if span]
    if not spans:
        raise InputError(f"vocabulary size {vocab_size}: 0 characters to find it in; more text is needed")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(spans),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            unk_id=0,
            bos_id=BOS_ID,
            eos_id=-1,
            pad_id=-1,
            user_defined_symbols=list(operators),
            character_coverage=1.0,  # rare characters are removed from the text instead, so that any size works
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            max_sentence_length=1 << 30,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        largest = re.search(r"too high \(\d+\)\. Please set it to a value <= (\d+)", str(error))
        if largest is None:
            raise
        size = sum(len(text.encode()) for text in texts)
        raise InputError(
            f"vocabulary size {vocab_size}: {size} bytes of text give at most {largest[1]} pieces; "
            "use a smaller vocabulary or more text"
        ) from error
    with replacing(path) as file:
        file.write(model.getvalue())


def _at_most(documents: Iterable[str], limit: int) -> list[str]:
    texts, size = [], 0
    for text in documents:
        texts.append(text)
        size += len(text.encode())
        if size >= limit:
            break
    return texts


def _frequent_characters(texts: list[str], room: int) -> set[str]:
    """The characters that get a piece: the space, then the most frequent ones up to the coverage, or that fit."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    for never in (" ", *_NEVER_PIECES):
        del counts[never]
    uncovered = (1 - _CHARACTER_COVERAGE) * counts.total()
    kept, left = {" "}, counts.total()
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(kept) >= room or left <= uncovered:
            break
        kept.add(character)
        left -= count
    return kept


_DOUBTED, _DOUBT_FROM, _DOUBTED_TOKENS = 50, 4, 20_000
"""Greatest and least number of documents by which it is checked that a tokenizer matches, and most tokens of each."""
MAX_PIECE_BYTES = 4096
"""Greatest number of UTF-8 bytes of a piece, as the counts of `TokenBytes` have 16 bits."""


class Tokenizer:
    """A SentencePiece model read from a file.

    Attributes:
        case_ops: the transform of its text, recognised by its four operators; None: text is not transformed.

    Raises:
        InputError: the file is missing or is not a SentencePiece model.
    """

    def __init__(self, path: Path) -> None:
        content = read_bytes(path, "a SentencePiece model is needed", MAX_BYTES)
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            sentencepiece.set_min_log_level(2)
            loaded = bool(content) and self._model.LoadFromSerializedProto(content)
        except RuntimeError:
            loaded = False
        if not loaded:
            raise InputError(f"{path}: {len(content)} bytes that are no SentencePiece model; a .model file is needed")
        self.vocab_size: int = self._model.get_piece_size()
        self.bos_id: int = self._model.bos_id()
        for token in range(self.vocab_size):
            self._check_piece(token)
        self.case_ops: CaseOps | None = next(filter(self._has_operators, KINDS), None)

    def _has_operators(self, kind: CaseOps) -> bool:
        ids = [self._model.piece_to_id(character) for character in kind.characters]
        return not self._model.is_unknown(ids[0]) and ids == list(range(ids[0], ids[0] + len(ids)))

    def _check_piece(self, token: int) -> None:
        """Check that a piece is text of acceptable length, and that a byte piece names a byte."""
        try:
            piece = self._model.id_to_piece(token)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}: piece {token} is not UTF-8 ({error.reason}); get the model again"
            ) from error
        if (size := len(piece.encode(errors="replace"))) > MAX_PIECE_BYTES:
            raise InputError(f"{self.path}: piece {token} has {size} bytes; at most {MAX_PIECE_BYTES} are counted")
        if self._model.is_byte(token) and not re.fullmatch("<0x[0-9A-F]{2}>", piece):
            raise InputError(f"{self.path}: piece {token} is {piece[:20]!a} and stands for a byte; it must name one")

    def encode(self, text: str) -> list[int]:
        """The ids of a document, without BOS.

        Raises:
            InputError: the text has a lone surrogate, which UTF-8 cannot encode.
        """
        if (half := re.search("[\ud800-\udfff]", text)) is not None:
            raise InputError(f"character {half.start()} of the text is {half[0]!a}: it must be one that UTF-8 has")
        if self.case_ops is not None:
            text = self.case_ops.transform(text)
        if SPACE_MARK not in text or self._mark_ids is None:
            return list(self._model.encode(text))
        # The model would take the mark for a space. So it is replaced by a character that is not in any piece, whose
        # three byte tokens are then replaced by those of the mark.
        stand_in = self._stand_in(text)
        wanted, unwanted = self._mark_ids, self._byte_ids(stand_in)
        ids = list(self._model.encode(text.replace(SPACE_MARK, stand_in)))
        exchanged = 0
        for start in range(len(ids) - 2):
            if ids[start : start + 3] == unwanted:
                ids[start : start + 3] = wanted
                exchanged += 1
        if exchanged != text.count(SPACE_MARK):
            raise InputError(f"{self.path}: it has no bytes for the U+2581 of the text; another tokenizer is needed")
        return ids

    def _stand_in(self, text: str) -> str:
        """A character of three UTF-8 bytes that is neither in the text nor in a piece."""
        used = self._characters.union(text)
        for code in (*_PRIVATE_USE, *range(0x800, 0xD800), *range(0xF900, 0xFFFE)):
            if chr(code) not in used:
                return chr(code)
        raise InputError("a text uses every character of three UTF-8 bytes, and U+2581 too; take that one out")

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of ids from the start of a document; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: npt.ArrayLike) -> bytes:
        """The bytes of ids [n] from the start of a document; documents are joined without a separator.

        Their number is the sum of `TokenBytes.along` with BOS before the first id.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        if self.case_ops is None:
            return self._surface(tokens)
        documents = np.split(tokens, np.flatnonzero(tokens == self.bos_id))
        return b"".join(self.case_ops.restore(self._surface(document)) for document in documents)

    def _surface(self, tokens: npt.NDArray[np.int64]) -> bytes:
        after_boundary = np.ones(tokens.size, np.bool_)
        after_boundary[1:] = self.token_bytes().boundary[tokens[:-1]]
        plain, spaceless = self._pieces
        return b"".join(
            spaceless[token] if first else plain[token]
            for token, first in zip(tokens.tolist(), after_boundary.tolist(), strict=True)
        )

    def pieces(self, ids: npt.ArrayLike) -> list[str]:
        """The text of each of the ids [n] by itself; a byte that is not a character by itself as `<0xE2>`."""
        texts = []
        for token in np.asarray(ids, dtype=np.int64).tolist():
            piece = self._pieces[0][token]
            try:
                texts.append(piece.decode())
            except UnicodeDecodeError:
                texts.append("".join(f"<0x{byte:02X}>" for byte in piece))
        return texts

    def doubt(self, tokens: npt.NDArray[np.uint16]) -> str:
        """A clause on why `tokens` [n] are probably not from this tokenizer; empty if they are, or if it is unclear.

        Encoding the text of a document restores its tokens. With another tokenizer of the same size it almost never
        does.
        """
        starts = np.flatnonzero(tokens == self.bos_id) if self.bos_id >= 0 else np.empty(0, np.int64)
        documents = [tokens[first + 1 : stop] for first, stop in itertools.pairwise(starts.tolist())]
        seen = [ids for ids in documents if 0 < ids.size <= _DOUBTED_TOKENS and ids.max() < self.vocab_size]
        kept = sum(map(self._gives_back, seen[:_DOUBTED]))
        if len(seen) < _DOUBT_FROM or 10 * kept >= len(seen[:_DOUBTED]):
            return ""
        return (
            f"{self.path} makes other tokens of the text of {len(seen[:_DOUBTED]) - kept} of {len(seen[:_DOUBTED])} "
            "documents: it is hardly the tokenizer of these shards, and bits per byte under another mean nothing"
        )

    def _gives_back(self, ids: npt.NDArray[np.uint16]) -> bool:
        try:
            return bool(self.encode(self.decode_bytes(ids).decode("utf-8")) == ids.tolist())
        except (UnicodeDecodeError, InputError):
            return False

    def token_bytes(self, vocab_size: int | None = None) -> TokenBytes:
        """Byte lengths by id, for `vocab_size` ids if that is more than the tokenizer has."""
        return self._token_bytes if vocab_size is None else token_bytes(self._model, vocab_size, self.case_ops)

    @cached_property
    def _token_bytes(self) -> TokenBytes:
        return token_bytes(self._model, case_ops=self.case_ops)

    @cached_property
    def _pieces(self) -> tuple[list[bytes], list[bytes]]:
        """The bytes of every piece, and those without its leading space, which count after a boundary."""
        table = self._token_bytes
        plain, spaceless = [], []
        for token in range(self.vocab_size):
            if table.boundary[token]:
                piece = b""
            elif self._model.is_byte(token):
                piece = bytes([int(self._model.id_to_piece(token)[3:5], 16)])
            else:
                piece = self._model.id_to_piece(token).replace(SPACE_MARK, " ").encode()
            plain.append(piece)
            spaceless.append(piece[1:] if table.leading_space[token] else piece)
        return plain, spaceless

    @cached_property
    def _characters(self) -> set[str]:
        return set().union(*(self._model.id_to_piece(token) for token in range(self.vocab_size)))

    @cached_property
    def _mark_ids(self) -> list[int] | None:
        return self._byte_ids(SPACE_MARK)

    def _byte_ids(self, character: str) -> list[int] | None:
        """The byte tokens of a character; None if the model has none."""
        ids = [self._model.piece_to_id(f"<0x{byte:02X}>") for byte in character.encode()]
        return ids if all(self._model.is_byte(token) for token in ids) else None
