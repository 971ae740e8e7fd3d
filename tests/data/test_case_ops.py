import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.data import BOS_ID, Tokenizer, train_tokenizer
from golf_fast.data.case_ops import KINDS, OURS, PUBLISHED, CaseOps
from golf_fast.data.validation import Validation, count_bytes

any_text = st.text(st.sampled_from("abXY \n.\u2581\ue001\ue004\ue011\ue013\ue014\xc9") | st.characters(codec="utf-8"))
kinds = pytest.mark.parametrize("kind", KINDS, ids=["published", "ours"])


def shown(kind: CaseOps, text: str) -> str:
    """The transform of a text, its operators as T, A, N and E (the text has none of these letters in upper case)."""
    return kind.transform(text).translate(str.maketrans(dict(zip(kind.characters, "TANE", strict=True))))


@pytest.mark.parametrize(
    ("text", "published", "ours"),
    [
        ("all lower, 42 \xc9", "all lower, 42 \xc9", "all lower, 42 \xc9"),
        ("Bob Bob", "Tbob Tbob", "TbobT bob"),
        ("BOB,BOB BOB", "Abob,Abob Abob", "Abob,AbobA bob"),
        ("I", "Ti", "Ti"),
        ("iPhone iP", "iNphone iNp", "iNphone iNp"),
        ("McDoug DOug", "TmcNdoug TdNoug", "TmcNdougT dNoug"),
        ("  Bob\n Bob", "  Tbob\n Tbob", " T bob\nT bob"),
        ("CV5s BD_x", "Acv5s Abd_x", "Acv5sA bd_x"),
    ],
)
def test_each_kind_of_run(text: str, published: str, ours: str) -> None:
    assert (shown(PUBLISHED, text), shown(OURS, text)) == (published, ours)


@kinds
def test_operators_of_the_text_are_escaped(kind: CaseOps) -> None:
    title, _, _, escape = kind.characters
    assert kind.transform(f"{title}a{escape}{escape}") == f"{escape}{title}a{escape}{escape}{escape}{escape}"


@kinds
@settings(max_examples=500)
@given(text=any_text)
def test_every_text_comes_back(kind: CaseOps, text: str) -> None:
    changed = kind.transform(text)
    assert kind.restore(changed.encode()) == text.encode()
    assert not re.search("[A-Z]", changed)


@kinds
@given(text=st.binary())
def test_any_bytes_can_be_restored(kind: CaseOps, text: bytes) -> None:
    assert len(kind.restore(text)) <= len(text)


@pytest.fixture(scope="module")
def spoken(documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[CaseOps, Tokenizer]:
    folder = tmp_path_factory.mktemp("case_ops")
    for number, kind in enumerate(KINDS):
        train_tokenizer([text.title() for text in documents], 330, folder / f"{number}.model", kind)
    return {kind: Tokenizer(folder / f"{number}.model") for number, kind in enumerate(KINDS)}


@kinds
def test_a_tokenizer_is_known_by_its_operators(
    spoken: dict[CaseOps, Tokenizer], tokenizer: Tokenizer, kind: CaseOps
) -> None:
    assert spoken[kind].case_ops == kind
    assert spoken[kind].vocab_size == 330
    assert tokenizer.case_ops is None


@kinds
@settings(max_examples=200)
@given(text=any_text)
def test_a_tokenizer_gives_any_text_back_and_counts_its_bytes(
    spoken: dict[CaseOps, Tokenizer], kind: CaseOps, text: str
) -> None:
    tokenizer = spoken[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes([BOS_ID, *ids, BOS_ID, *ids]) == text.encode() * 2
    assert int(tokenizer.token_bytes().along([BOS_ID, *ids]).sum()) == len(text.encode())


def test_a_word_is_one_piece_whatever_its_case(spoken: dict[CaseOps, Tokenizer]) -> None:
    lower, title, upper = (spoken[OURS].encode(f"a{text} fox") for text in (" token", " Token", " TOKEN"))
    assert title == [*lower[:2], title[2], *lower[2:]]
    assert upper == [*lower[:2], upper[2], *lower[2:]]
    assert title[2] != upper[2]


@kinds
@pytest.mark.parametrize("at_once", [1, 2, 3, 64])
def test_bytes_are_counted_across_pieces(
    spoken: dict[CaseOps, Tokenizer], kind: CaseOps, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{kind.escape * 5}{kind.title} Fox{kind.escape}{kind.next}{kind.escape * 2}FOX"
    tokens = np.array([BOS_ID, *spoken[kind].encode(text)], np.uint16)
    whole = count_bytes(tokens, spoken[kind].token_bytes())
    monkeypatch.setattr("golf_fast.data.validation._COUNTED_AT_ONCE", at_once)
    assert count_bytes(tokens, spoken[kind].token_bytes()).tolist() == whole.tolist()
    assert Validation.counted(tokens, spoken[kind].token_bytes()).bytes == len(text.encode())


def test_an_ordinary_tokenizer_never_takes_an_operator_for_a_piece(documents: list[str], tmp_path: Path) -> None:
    train_tokenizer([*documents, OURS.characters * 5000], 400, tmp_path / "plain.model")
    assert Tokenizer(tmp_path / "plain.model").case_ops is None
