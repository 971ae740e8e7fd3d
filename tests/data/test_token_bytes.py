import numpy as np
import sentencepiece

from golf_fast.data import TokenBytes, Tokenizer
from golf_fast.data.token_bytes import token_bytes


class Pieces:
    """What `token_bytes` asks of a SentencePiece model, by hand."""

    kinds = ("unknown", "control", "byte", "unused", "", "", "", "", "")
    names = ("<unk>", "<s>", "<0xE2>", "x", "\u2581", "\u2581the", "the", "\u2581\u00e9\u00e9", "a\u2581b")

    def get_piece_size(self) -> int:
        return len(self.names)

    def id_to_piece(self, token: int) -> str:
        return self.names[token]

    def __getattr__(self, name: str) -> object:
        kind = name.removeprefix("is_")
        return lambda token: self.kinds[token] == kind


def test_each_kind_of_piece() -> None:
    table = token_bytes(Pieces(), vocab_size=11)
    assert table.base.dtype == np.int16
    assert table.base.tolist() == [0, 0, 1, 0, 0, 3, 3, 4, 3, 0, 0]
    assert np.flatnonzero(table.leading_space).tolist() == [4, 5, 7]
    assert np.flatnonzero(table.boundary).tolist() == [0, 1, 3, 9, 10]


def test_a_space_counts_unless_it_follows_a_boundary() -> None:
    table = token_bytes(Pieces())
    previous = np.array([[1, 5, 2, 3], [4, 0, 4, 5]], np.uint16)
    targets = np.array([[5, 5, 5, 4], [4, 7, 2, 1]], np.uint16)
    counted = table.count(previous, targets)
    assert counted.dtype == np.int64
    assert counted.tolist() == [[3, 4, 4, 0], [1, 4, 1, 0]]


def test_against_a_loop_over_the_published_rule(tokenizer: Tokenizer) -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.path))
    table: TokenBytes = tokenizer.token_bytes()
    generator = np.random.default_rng(0)
    previous, targets = generator.integers(0, tokenizer.vocab_size, (2, 3000))
    for before, after, counted in zip(previous, targets, table.count(previous, targets), strict=True):
        before, after = int(before), int(after)
        piece = model.id_to_piece(after)
        if model.is_control(after) or model.is_unknown(after):
            expected = 0
        elif model.is_byte(after):
            expected = 1
        else:
            expected = len(piece.removeprefix("\u2581").encode())
            expected += piece.startswith("\u2581") and not (model.is_control(before) or model.is_unknown(before))
        assert counted == expected
