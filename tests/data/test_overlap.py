"""What of the validation text stands in the training text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golf_fast.config import DataConfig
from golf_fast.data import Dataset, overlap, prepare, write_shard
from golf_fast.data.overlap import find_overlap


def words(seed: int, documents: int = 40) -> list[str]:
    """Documents of a hundred made-up words each."""
    random = np.random.default_rng(seed)
    vocabulary = ["".join(chr(97 + c) for c in random.integers(0, 26, 6)) for _ in range(400)]
    return [" ".join(random.choice(vocabulary, 100)) for _ in range(documents)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": each}) + "\n" for each in words(1)))
    return prepare(DataConfig(source="text", text=text, built=tmp_path / "built"), 300, False)


def with_training(dataset: Dataset, folder: Path, texts: list[str]) -> Dataset:
    """The same validation text, with other training documents."""
    tokenizer = dataset.tokenizer()
    path = folder / "other_train_000000.bin"
    write_shard(path, np.concatenate([[1, *tokenizer.encode(text)] for text in texts]).astype(np.uint16))
    return replace(dataset, train_shards=[path])


def held_out(dataset: Dataset) -> list[str]:
    tokens = np.concatenate([overlap.Shard(path).read(0, 1 << 30) for path in dataset.val_shards])
    tokenizer = dataset.tokenizer()
    pieces = np.split(tokens, np.flatnonzero(tokens == 1))[1:]
    return [tokenizer.decode_bytes(piece).decode() for piece in pieces]


def test_different_texts_share_nothing(dataset: Dataset) -> None:
    found = find_overlap(dataset)
    assert found.documents == 4
    assert found.spans > 10
    assert (found.documents_found, found.spans_found, found.partial) == (0, 0, "")


def test_a_link_to_the_training_tokens_is_all_of_it(dataset: Dataset) -> None:
    found = find_overlap(replace(dataset, val_shards=dataset.train_shards))
    assert found.documents_shared == found.spans_shared == 1


@pytest.mark.parametrize("change", [lambda text: text, lambda text: text.replace(" ", "  "), str.upper])
def test_documents_are_found_but_for_spaces_and_capitals(dataset: Dataset, tmp_path: Path, change: object) -> None:
    leaking = [change(text) for text in held_out(dataset)]  # type: ignore[operator]
    found = find_overlap(with_training(dataset, tmp_path, words(2) + leaking))
    assert found.documents_found == found.documents == 4
    assert found.spans_shared == 1


def test_a_document_that_holds_them_all_is_found_by_spans(dataset: Dataset, tmp_path: Path) -> None:
    found = find_overlap(with_training(dataset, tmp_path, ["before" + "   ".join(held_out(dataset)) + "after"]))
    assert found.documents_found == 0
    assert found.spans_shared > 0.7


def test_large_shards_are_compared_by_spans_of_tokens(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "TEXT_TOKENS", 10)
    clean = find_overlap(dataset)
    assert (clean.documents, clean.spans_found, clean.left_out) == (0, 0, "")
    assert clean.spans > 10
    leaking = find_overlap(with_training(dataset, tmp_path, words(2) + held_out(dataset)))
    assert leaking.spans_shared > 0.8
    monkeypatch.setattr(overlap, "SAMPLED_TOKENS", 1000)
    middle = find_overlap(with_training(dataset, tmp_path, words(2) + held_out(dataset) + words(3)))
    assert middle.spans_found, "what is in the middle of a large shard is sampled too"
    assert "of the training tokens 1,000 of" in find_overlap(dataset).left_out
