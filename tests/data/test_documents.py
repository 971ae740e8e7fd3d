import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_fast.data.documents import cut, split
from golf_fast.errors import InputError


@given(st.text("ab \n\r\u00e9", max_size=400), st.integers(1, 60))
def test_pieces_joined_are_the_text(text: str, limit: int) -> None:
    pieces = cut(text, limit)
    assert "".join(pieces) == text
    assert all(pieces) or not text


def test_a_long_text_is_cut_at_blank_lines() -> None:
    paragraphs = [f"paragraph {number}\n" + "some words in a line\n" * 3 for number in range(60)]
    pieces = cut("\n".join(paragraphs), 500)
    assert len(pieces) > 5
    assert all(piece.startswith("\nparagraph ") for piece in pieces[1:])
    assert all(500 <= len(piece) < 600 for piece in pieces[:-1])


def test_without_blank_lines_it_is_cut_at_line_ends() -> None:
    pieces = cut("a line of text\n" * 200, 300)
    assert len(pieces) == 10
    assert all(piece.endswith("\n") for piece in pieces)


def test_a_text_that_is_hardly_too_long_stays_whole() -> None:
    assert cut("line\n\n" * 10, 30) == ["line\n\n" * 10]


@given(st.lists(st.text(min_size=1), min_size=2, unique=True), st.floats(0.01, 0.99))
def test_both_sides_get_documents_and_share_none(documents: list[str], fraction: float) -> None:
    parts = split(documents, fraction, "here")
    assert parts.train
    assert parts.val
    assert sorted(parts.train + parts.val) == sorted(documents)


def test_the_share_is_of_bytes_and_the_choice_does_not_hang_on_the_order() -> None:
    documents = [f"document {number} " * (number % 7 + 1) for number in range(500)]
    parts = split(documents, 0.2, "here")
    share = sum(map(len, parts.val)) / sum(map(len, documents))
    assert 0.19 < share < 0.21
    assert split(documents[::-1], 0.2, "here") == parts


def test_repeats_are_dropped_so_that_none_is_on_both_sides() -> None:
    parts = split(["a", "b", "a", "c", "a"], 0.5, "here")
    assert parts.repeats == 2
    assert sorted(parts.train + parts.val) == ["a", "b", "c"]


@pytest.mark.parametrize("documents", [["a"], ["a", "a", "a"]])
def test_one_document_cannot_be_split(documents: list[str]) -> None:
    with pytest.raises(InputError, match=r"here: 1 different document\(s\); at least 2"):
        split(documents, 0.1, "here")


@given(st.text("a \u3042\U0001f600\n\r\u2028", max_size=400), st.integers(4, 60))
def test_no_piece_is_much_longer_than_wanted(text: str, limit: int) -> None:
    pieces = cut(text, limit)
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= 2 * limit + limit // 4 for piece in pieces)
