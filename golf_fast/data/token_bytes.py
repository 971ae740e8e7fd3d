"""The number of bytes of text that each token stands for, which converts nats per token to bits per byte."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sentencepiece

from golf_fast.data.case_ops import CaseOps

SPACE_MARK = "\u2581"
"""The character that SentencePiece uses for a space."""
OPERATOR_BYTES = 3
"""Number of UTF-8 bytes of an operator of `CaseOps`."""


@dataclass(frozen=True)
class TokenBytes:
    """Byte lengths by token id, as the challenge counts them (seed.md section 6).

    Attributes:
        base: int16 [V], UTF-8 bytes of the piece without its leading space; 1 for a byte token, 0 for a boundary.
        leading_space: bool [V], whether the piece begins with a space.
        boundary: bool [V], whether the id is a control, unknown or unused token or is beyond the tokenizer; a space
            after such a token is not part of the text.
        operators: bool [V], whether the token is an operator of `CaseOps`, which stands for no text, or for 3 bytes if
            it is escaped; None: there are none.
        escape: id of the operator that escapes others; -1: there is none.
    """

    base: npt.NDArray[np.int16]
    leading_space: npt.NDArray[np.bool_]
    boundary: npt.NDArray[np.bool_]
    operators: npt.NDArray[np.bool_] | None = None
    escape: int = -1

    def __post_init__(self) -> None:
        assert self.base.shape == self.leading_space.shape == self.boundary.shape

    def count(self, previous: npt.ArrayLike, targets: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The bytes of each target, given the token before it.

        If several escapes of `CaseOps` follow each other, one previous token does not suffice; `along` counts those
        correctly.

        Args:
            previous: ids of the previous tokens, any shape.
            targets: ids of the targets, the same shape.

        Returns:
            int64, the same shape.
        """
        before, after = np.asarray(previous), np.asarray(targets)
        spaces = self.leading_space[after] & ~self.boundary[before]
        counts: npt.NDArray[np.int64] = np.add(self.base[after], spaces, dtype=np.int64)
        if self.operators is None:
            return counts
        return np.where(self.operators[after] & (before == self.escape), OPERATOR_BYTES, counts)

    def along(self, tokens: npt.ArrayLike, escaped: bool = False) -> npt.NDArray[np.int64]:
        """The bytes of each token of a stream except the first, whose bytes depend on the token before it.

        Args:
            tokens: ids [n], n at least 1.
            escaped: whether the first token is itself escaped, so that it does not escape the second.

        Returns:
            int64 [n - 1].
        """
        ids = np.asarray(tokens)
        counts = self.count(ids[:-1], ids[1:])
        if self.operators is not None:
            taken = 0 if escaped else -1
            for at in np.flatnonzero(ids[:-1] == self.escape).tolist():
                if not self.operators[ids[at + 1]]:
                    continue
                if at == taken:  # it is escaped itself, so it does not escape the next
                    counts[at] = 0
                else:
                    taken = at + 1
        return counts

    def is_literal_escape(self, token: int, size: int) -> bool:
        """Whether a token that stands for `size` bytes is an escaped escape, which does not escape the next token."""
        return token == self.escape and size > 0


def token_bytes(
    model: sentencepiece.SentencePieceProcessor, vocab_size: int | None = None, case_ops: CaseOps | None = None
) -> TokenBytes:
    """Byte lengths of a SentencePiece model's pieces.

    A space mark inside a piece counts as one byte, like a leading one. The challenge's tokenizers and ours have no such
    pieces, so their numbers are the published ones.

    Args:
        model: the SentencePiece model.
        vocab_size: number of entries of the tables, if larger than the number of pieces; the rest are boundaries.
        case_ops: the operators among the pieces; None: there are none.
    """
    pieces = model.get_piece_size()
    size = max(pieces, vocab_size or 0)
    base = np.zeros(size, np.int16)
    leading_space = np.zeros(size, np.bool_)
    boundary = np.ones(size, np.bool_)
    for token in range(pieces):
        if model.is_control(token) or model.is_unknown(token) or model.is_unused(token):
            continue
        boundary[token] = False
        if model.is_byte(token):
            base[token] = 1
            continue
        piece = model.id_to_piece(token)
        leading_space[token] = piece.startswith(SPACE_MARK)
        base[token] = len(piece.removeprefix(SPACE_MARK).replace(SPACE_MARK, " ").encode())
    if case_ops is None:
        return TokenBytes(base, leading_space, boundary)
    operators = np.zeros(size, np.bool_)
    operators[[model.piece_to_id(character) for character in case_ops.characters]] = True
    base[operators] = 0
    return TokenBytes(base, leading_space, boundary, operators, model.piece_to_id(case_ops.escape))
