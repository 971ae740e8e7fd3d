import io
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.data import BOS_ID, TokenBytes, Tokenizer, train_tokenizer
from golf_fast.errors import InputError

NASTY = [
    "",
    " ",
    "   leading and trailing   ",
    "\n",
    "\n\n\n  x\n",
    "\ttabs\t\tand\tmore",
    "CR\r\nLF\r\n\r\nand lone\rCR",
    "\0",
    "NUL\0in\0side",
    "\u2581",
    "\u2581\u2581 a\u2581b \u2581",
    " \u2581 \u2581",
    "\ue000\u2581\ue001",
    "\u2585 \u2047",
    "\u00e9 e\u0301 \u0301",
    "\U0001f389\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\ufeffbyte order mark",
    "\u3000ideographic\u00a0space\u2028line",
    "<s></s><unk><0x41>",
    "\ufb01 \u2460 \uff21 normalization would change these",
    "\U0010ffff\uffff",
]

any_text = st.text(st.sampled_from("ab \t\n\r\0\u2581\ue000\u00e9\u0301\U0001f389<x>.") | st.characters(codec="utf-8"))


def counted_bytes(table: TokenBytes, ids: list[int]) -> int:
    return int(table.along([BOS_ID, *ids]).sum())


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_nasty_text_comes_back_and_its_bytes_are_counted(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes([BOS_ID, *ids]) == text.encode()
    assert counted_bytes(tokenizer.token_bytes(), ids) == len(text.encode())


@settings(max_examples=200)
@given(text=any_text)
def test_any_text_comes_back_and_its_bytes_are_counted(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert counted_bytes(tokenizer.token_bytes(), ids) == len(text.encode())
    assert BOS_ID not in ids


def test_documents_in_a_row_decode_to_their_texts_joined(tokenizer: Tokenizer, documents: list[str]) -> None:
    ids = [token for text in documents for token in (BOS_ID, *tokenizer.encode(text))]
    assert tokenizer.decode_bytes(ids) == "".join(documents).encode()


def test_training_on_nasty_text_keeps_it(tmp_path: Path, documents: list[str]) -> None:
    path = tmp_path / "nasty.model"
    train_tokenizer([*documents, *NASTY * 5], 400, path)
    tokenizer = Tokenizer(path)
    for text in NASTY:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert counted_bytes(tokenizer.token_bytes(), tokenizer.encode(text)) == len(text.encode())


def test_the_same_documents_give_the_same_model(tmp_path: Path, documents: list[str]) -> None:
    train_tokenizer(documents, 320, tmp_path / "a.model")
    train_tokenizer(iter(documents), 320, tmp_path / "b.model")
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    assert Tokenizer(tmp_path / "a.model").sha256 == Tokenizer(tmp_path / "b.model").sha256


def test_ids_and_pieces_are_as_promised(tokenizer: Tokenizer) -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.path))
    assert (tokenizer.vocab_size, tokenizer.bos_id, model.unk_id(), model.eos_id()) == (320, BOS_ID, 0, -1)
    assert sum(model.is_byte(token) for token in range(320)) == 256
    pieces = [model.id_to_piece(token) for token in range(320)]
    assert not [piece for piece in pieces if "\u2581" in piece[1:]]  # the published byte counting holds too
    assert len(tokenizer.encode(" over a dog token batch")) < len(" over a dog token batch")  # it has learned something


@pytest.mark.parametrize("vocab_size", [259, 263, 300])
def test_small_vocabularies_work(tmp_path: Path, documents: list[str], vocab_size: int) -> None:
    train_tokenizer(documents, vocab_size, tmp_path / "small.model")
    tokenizer = Tokenizer(tmp_path / "small.model")
    assert tokenizer.vocab_size == vocab_size
    assert tokenizer.decode(tokenizer.encode(documents[0])) == documents[0]


def test_too_large_a_vocabulary_names_the_largest_that_works(tmp_path: Path, documents: list[str]) -> None:
    path = tmp_path / "x.model"
    with pytest.raises(InputError, match=r"vocabulary size 60000: \d+ bytes of text give at most \d+ pieces") as caught:
        train_tokenizer(documents, 60000, path)
    assert not list(tmp_path.iterdir())
    largest = int(str(caught.value).split("at most ")[1].split()[0])
    train_tokenizer(documents, largest, path)
    assert Tokenizer(path).vocab_size == largest


@pytest.mark.parametrize("vocab_size", [0, 258, 65537])
def test_an_impossible_vocabulary_is_an_error(tmp_path: Path, vocab_size: int) -> None:
    with pytest.raises(InputError, match=f"vocabulary size {vocab_size}: it must be from 259 to 65536"):
        train_tokenizer(["some text"], vocab_size, tmp_path / "x.model")


@pytest.mark.parametrize("documents", [[], [""], ["\0\0"]])
def test_no_text_is_an_error(tmp_path: Path, documents: list[str]) -> None:
    with pytest.raises(InputError, match="vocabulary size 300: 0 characters"):
        train_tokenizer(documents, 300, tmp_path / "x.model")


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(range(256)) * 8])
def test_a_foreign_model_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.model"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"foreign\.model: {len(content)} bytes that are no SentencePiece model"):
        Tokenizer(path)


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.model: cannot be read"):
        Tokenizer(tmp_path / "none.model")


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_a_tokenizer_made_elsewhere_counts_what_it_decodes(
    tmp_path: Path, documents: list[str], dummy_prefix: bool
) -> None:
    """One as of the challenge: NFKC, white space squeezed, newlines as bytes, EOS and padding among the controls."""
    model = io.BytesIO()
    lines = [line for text in documents for line in text.split("\n")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        add_dummy_prefix=dummy_prefix,
        minloglevel=2,
    )
    path = tmp_path / "elsewhere.model"
    path.write_bytes(model.getvalue())
    tokenizer = Tokenizer(path)
    for text in (*lines[:50], "unknown \U0001f389 here", "\u2581 mark"):
        ids = tokenizer.encode(text)
        text_back = tokenizer.decode(ids)
        assert counted_bytes(tokenizer.token_bytes(), ids) == len(text_back.encode())
        if "\u2581" not in text:  # SentencePiece takes a mark of byte tokens for one of its own when it decodes
            assert text_back == sentencepiece.SentencePieceProcessor(model_file=str(path)).decode(ids)
    assert tokenizer.token_bytes().boundary[:4].all()


def test_a_text_with_every_private_use_character_keeps_its_bytes(tokenizer: Tokenizer) -> None:
    text = "".join(map(chr, range(0xE000, 0xF900))) + "a \u2581 b"
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()
    everything = "".join(map(chr, [*range(0x800, 0xD800), *range(0xE000, 0x10000)]))
    with pytest.raises(InputError, match=r"every character of three UTF-8 bytes"):
        tokenizer.encode(everything)


def test_pieces_that_cannot_be_counted_are_an_error(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, path = tokenizer.path.read_bytes(), tmp_path / "foreign.model"
    piece = next(
        p for n in range(tokenizer.vocab_size) if len(p := tokenizer._model.id_to_piece(n)) == 2 and p.isascii()
    )
    held = b"\x0a\x02" + piece.encode()  # a field of two bytes in the model's protocol buffer
    assert content.count(held) == 1
    path.write_bytes(content.replace(held, b"\x0a\x02\xff\xfe"))
    with pytest.raises(InputError, match=r"foreign\.model: piece \d+ is not UTF-8"):
        Tokenizer(path)
    path.write_bytes(content.replace(b"<0x41>", b"<0xZZ>"))
    with pytest.raises(InputError, match=r"foreign\.model: "):
        Tokenizer(path)
    monkeypatch.setattr("golf_fast.data.tokenizer.MAX_PIECE_BYTES", 5)
    with pytest.raises(InputError, match=r"piece \d+ has \d+ bytes; at most 5 are counted"):
        Tokenizer(tokenizer.path)


def test_half_a_surrogate_pair_is_no_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"^character 1 of the text is '.udcff': it must be one that UTF-8 has$"):
        tokenizer.encode("a\udcff")
