"""How many bytes of text a token stands for: what turns nats per token into bits per byte."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sentencepiece

SPACE_MARK = "\u2581"
"""What SentencePiece writes for a space."""


@dataclass(frozen=True)
class TokenBytes:
    """Byte lengths by token id, as the challenge counts them (seed.md section 6).

    Attributes:
        base: int16 [V], UTF-8 bytes of the piece without its leading space; 1 for a byte token, 0 for a boundary.
        leading_space: bool [V], the piece begins with a space.
        boundary: bool [V], control, unknown and unused tokens, and ids beyond the tokenizer: a space after one
            of them is not in the text.
    """

    base: npt.NDArray[np.int16]
    leading_space: npt.NDArray[np.bool_]
    boundary: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        assert self.base.shape == self.leading_space.shape == self.boundary.shape

    def count(self, previous: npt.ArrayLike, targets: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Bytes of each target after the token before it.

        Args:
            previous: ids, any shape.
            targets: ids, the same shape.

        Returns:
            int64, the same shape.
        """
        before, after = np.asarray(previous), np.asarray(targets)
        spaces = self.leading_space[after] & ~self.boundary[before]
        counts: npt.NDArray[np.int64] = np.add(self.base[after], spaces, dtype=np.int64)
        return counts


def token_bytes(model: sentencepiece.SentencePieceProcessor, vocab_size: int | None = None) -> TokenBytes:
    """Byte lengths of a SentencePiece model's pieces.

    A space mark inside a piece is one byte, like the one in front. The challenge's tokenizers, and ours, have none
    there, so their numbers are the published ones.

    Args:
        vocab_size: entries of the tables if more than the model has pieces; the rest are boundaries.
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
    return TokenBytes(base, leading_space, boundary)
