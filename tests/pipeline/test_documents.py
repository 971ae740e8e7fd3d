"""The documents that a run leaves: where they begin, their bytes, and the text of the hardest and easiest."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from golf_fast.data import BOS_ID, Tokenizer, Validation, train_tokenizer
from golf_fast.data.case_ops import OURS
from golf_fast.errors import InputError
from golf_fast.pipeline.documents import find_documents, gains
from golf_fast.runs import documents

TEXTS = [f"The document of number {number}. " * 20 + "é" * number for number in range(12)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "a.model"
    train_tokenizer(TEXTS, 300, path)
    return Tokenizer(path)


def test_documents_go_from_bos_to_bos(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoded = [tokenizer.encode(text) for text in TEXTS]
    tokens = np.array([token for ids in encoded for token in (BOS_ID, *ids)], dtype=np.uint16)
    validation = Validation.counted(tokens, tokenizer.token_bytes())
    losses = np.ones(validation.targets, np.float32)
    lengths = [len(ids) + 1 for ids in encoded]
    bounds = np.cumsum([0, *lengths])
    losses[bounds[5] : bounds[6]] = 9
    losses[bounds[7] : bounds[8]] = 0.01
    found = find_documents(validation, losses, tokenizer)
    assert found.starts == bounds[:-1].tolist()
    assert found.bytes == [len(text.encode()) for text in TEXTS]
    assert (found.targets, found.span(11)) == (len(tokens) - 1, (bounds[11], len(tokens) - 1))
    assert len(found.shown) == 6
    assert (next(iter(found.shown)), list(found.shown)[-1]) == ("5", "7")
    assert "".join(found.shown["5"]) == f" {TEXTS[5]}".encode()[: len("".join(found.shown["5"]).encode())].decode()
    assert len(found.shown["5"]) == min(256, lengths[5]), "the BOS of the next is a target too"
    found.write(tmp_path / "documents.json")
    assert documents.read(tmp_path / "documents.json") == found


def test_hashes_are_of_the_text_whatever_its_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A larger vocabulary, and one of text without capitals."""
    seen = []
    for number, (size, case_ops) in enumerate([(300, None), (340, None), (300, OURS)]):
        train_tokenizer(TEXTS, size, tmp_path / f"{number}.model", case_ops)
        other = Tokenizer(tmp_path / f"{number}.model")
        tokens = np.array([token for text in TEXTS for token in (BOS_ID, *other.encode(text))], dtype=np.uint16)
        validation = Validation.counted(tokens, other.token_bytes())
        seen.append(find_documents(validation, np.ones(validation.targets, np.float32), other))
    expected = tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in TEXTS)
    assert [each.texts for each in seen] == [expected] * 3
    assert len({each.tokens_sha256 for each in seen}) == 3


def test_text_before_the_first_bos_is_a_document(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXTS[1])
    tokens = np.array([*ids, BOS_ID, *ids], dtype=np.uint16)
    validation = Validation.counted(tokens, tokenizer.token_bytes())
    found = find_documents(validation, np.ones(validation.targets, np.float32), tokenizer)
    assert found.starts == [0, len(ids)]
    assert sum(found.bytes) == validation.bytes
    assert found.texts[1] == hashlib.sha256(TEXTS[1].encode()).hexdigest()[:16]


def test_a_byte_that_is_no_character_is_named(tokenizer: Tokenizer) -> None:
    assert "".join(tokenizer.pieces(tokenizer.encode("a ☃"))) == " a <0xE2><0x98><0x83>"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"starts": [1, 2]}, "starts is"),
        ({"starts": [0, 9]}, "starts is"),
        ({"starts": [0]}, "starts is 1"),
        ({"shown": {"2": []}}, "shown is 2"),
        ({"shown": {"-1": []}}, "shown is -1"),
        ({"targets": "9"}, "targets"),
        ({"texts": ["0"]}, "texts is 1"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "documents.json"
    whole = {"tokens_sha256": "", "targets": 9, "starts": [0, 4], "bytes": [1, 2], "shown": {}}
    path.write_text(json.dumps(whole | change))
    with pytest.raises(InputError, match=said):
        documents.read(path)


def test_stretches_of_the_gain_are_the_whole_stream() -> None:
    found = gains(np.full(1000, 3, np.float32), np.arange(1000, dtype=np.float32))
    assert len(found) == 256
    assert [each["start"] for each in found[1:]] == [each["stop"] for each in found[:-1]]
    assert sum((each["stop"] - each["start"]) * each["adapting"] for each in found) == 499500
    assert {each["fixed"] for each in found} == {3.0}
    assert len(gains(np.ones(3, np.float32), np.ones(3, np.float32))) == 3
