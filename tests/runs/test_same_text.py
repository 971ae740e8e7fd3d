"""What two runs were scored on in common, by what they recorded of their documents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from golf_fast.errors import InputError
from golf_fast.runs.documents import Documents
from golf_fast.runs.same_text import of_other_tokens, shared

FIRST = Documents("f", 50, [0, 10, 20, 30, 40], [100, 200, 300, 400, 500], {}, ("a", "b", "c", "d", "e"))
OTHER = replace(FIRST, tokens_sha256="0", targets=100, starts=[0, 20, 40, 60, 80])
NAMES = ("A", "B")


def test_the_same_tokens_share_all() -> None:
    found = shared(FIRST, replace(FIRST, texts=()), NAMES)
    assert (found.documents, found.bytes, found.same_tokens) == ((0, 1, 2, 3, 4), 1500, True)
    assert of_other_tokens([("B", found)]) == []


def test_the_last_document_may_be_cut() -> None:
    found = shared(FIRST, replace(OTHER, bytes=[100, 200, 300, 400, 480], texts=(*"abcd", "cut")), NAMES)
    assert (found.documents, found.bytes, found.scored, found.known_by) == ((0, 1, 2, 3), 1000, (1500, 1480), "text")
    assert found.whole("A", "B") == (
        "B against A: the same text in other tokens (100 against 50), 1,480 against 1,500 bytes of it scored;"
        " 4 of 5 documents, 1,000 bytes are in both, the last being cut where whole rows of tokens end"
    )


def test_a_run_of_more_documents_shares_those_of_the_other() -> None:
    found = shared(replace(FIRST, starts=FIRST.starts[:2], bytes=[100, 150], texts=("a", "cut")), OTHER, NAMES)
    assert (found.documents, found.counts) == ((0,), (2, 5))


def test_documents_that_a_tokenizer_normalizes_are_left_out() -> None:
    found = shared(FIRST, replace(OTHER, bytes=[100, 199, 300, 400, 500], texts=("a", "B", "C", "d", "e")), NAMES)
    assert found.documents == (0, 3, 4)
    assert "; compared over 3 of 5 documents, 1,000 bytes, 2 others not" in found.compared("A", "B")


def test_a_document_whose_bytes_are_counted_otherwise_is_left_out() -> None:
    assert shared(FIRST, replace(OTHER, bytes=[100, 199, 300, 400, 500]), NAMES).documents == (0, 2, 3, 4)


def test_without_hashes_all_sizes_must_agree() -> None:
    unhashed = replace(FIRST, texts=())
    found = shared(unhashed, replace(OTHER, bytes=[100, 200, 300, 400, 1]), NAMES)
    assert (found.documents, found.known_by) == ((0, 1, 2, 3), "bytes")
    with pytest.raises(InputError, match=r"B: was scored on another text than A, as far as is known: 3 of 4 documents"):
        shared(unhashed, replace(OTHER, bytes=[100, 200, 301, 400, 1]), NAMES)
    alike = replace(unhashed, bytes=[100] * 5)
    with pytest.raises(InputError, match="another text"):
        shared(alike, replace(OTHER, bytes=[100] * 5), NAMES)


def test_another_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 of 4 documents are the same by their text and bytes"):
        shared(FIRST, replace(OTHER, texts=("a", "x", "y", "z", "w")), NAMES)


def test_one_document_that_is_cut_shares_nothing() -> None:
    one = Documents("f", 50, [0], [100], {}, ("a",))
    with pytest.raises(InputError, match=r"^B: shares no whole document with A: 99 and 100 bytes were scored") as error:
        shared(one, replace(one, tokens_sha256="0", bytes=[99], texts=("b",)), NAMES)
    assert "\n" not in str(error.value)
    assert shared(one, replace(one, tokens_sha256="0"), NAMES).documents == (0,)


def test_runs_that_share_the_same_are_told_together() -> None:
    same, other = shared(FIRST, FIRST, NAMES), shared(FIRST, OTHER, NAMES)
    held = [("same", same), ("B", other), ("C", shared(FIRST, OTHER, ("A", "C")))]
    assert of_other_tokens(held) == [("B, C", other)]
