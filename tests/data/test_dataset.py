import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golf_fast.config import DataConfig
from golf_fast.data import BOS_ID, Corpus, Dataset, Tokenizer, prepare, read_shard, write_shard
from golf_fast.data.tokenizer import train_tokenizer
from golf_fast.errors import InputError


@pytest.fixture
def built(text_folder: Path, tmp_path: Path) -> Dataset:
    return prepare(DataConfig(text=text_folder, built=tmp_path / "built"), 300, has_gpu=False)


@pytest.fixture
def shards(built: Dataset, tmp_path: Path) -> DataConfig:
    """The built data laid out like the challenge's."""
    folder = tmp_path / "fineweb10B_x"
    folder.mkdir()
    shutil.copy(built.train_shards[0], folder / "fineweb_train_000000.bin")
    shutil.copy(built.val_shards[0], folder / "fineweb_val_000000.bin")
    return DataConfig(source="shards", shards=folder, tokenizer=built.tokenizer_path)


@pytest.mark.parametrize("window", [1, 7, 64])
def test_validation_tokens_are_cut_to_whole_windows(built: Dataset, window: int) -> None:
    whole = built.val_tokens(1)
    tokens = built.val_tokens(window)
    assert tokens.dtype == np.uint16
    assert len(tokens) == window * ((len(whole) - 1) // window) + 1
    assert tokens.tolist() == whole[: len(tokens)].tolist()


def test_texts_are_those_of_the_documents(built: Dataset, documents: list[str]) -> None:
    train = built.train_text(10_000_000)
    val = built.val_text(built.val_tokens(1))
    assert train is not None
    assert len(train) + len(val) == sum(len(text.encode()) for text in documents)
    for text in documents:
        assert (text.encode() in train) != (text.encode() in val)


def test_the_validation_text_is_as_long_as_its_tokens_count(built: Dataset) -> None:
    tokens = built.val_tokens(1)
    for start in range(40):  # from a document's start and from its middle
        span = tokens[start:-3]
        counted = built.tokenizer().token_bytes().count(span[:-1], span[1:]).sum()
        assert len(built.val_text(span)) == counted


def test_bytes_beside_the_shards_are_taken_and_part_of_the_data(built: Dataset, shards: DataConfig) -> None:
    without = prepare(shards, 300, has_gpu=False)
    assert built.validation(7).byte_counts.tolist() == without.validation(7).byte_counts.tolist()
    tokens = read_shard(without.val_shards[0])
    numbers = np.where(tokens == BOS_ID, 0, np.arange(len(tokens)) % 5)
    write_shard(shards.shards / "fineweb_val_bytes_000000.bin", numbers)
    beside = prepare(shards, 300, has_gpu=False)
    assert beside.val_shards == without.val_shards
    assert beside.fingerprint != without.fingerprint
    assert beside.validation(7).byte_counts.tolist() == numbers[1 : len(beside.val_tokens(7))].tolist()
    write_shard(shards.shards / "fineweb_val_bytes_000000.bin", numbers[:-1])
    with pytest.raises(InputError, match=r"fineweb_val_bytes_000000\.bin: \d+ numbers of bytes, but"):
        prepare(shards, 300, has_gpu=False)


def test_all_validation_shards_have_their_bytes_beside_or_none(shards: DataConfig) -> None:
    shutil.copy(shards.shards / "fineweb_val_000000.bin", shards.shards / "fineweb_val_000001.bin")
    shutil.copy(shards.shards / "fineweb_val_000000.bin", shards.shards / "fineweb_val_bytes_000001.bin")
    with pytest.raises(InputError, match=r"fineweb_val_bytes_000000\.bin: is missing, but"):
        prepare(shards, 300, has_gpu=False)


def test_a_training_text_beyond_the_limit_is_not_given(built: Dataset) -> None:
    text = built.train_text(10_000_000)
    assert text is not None
    assert built.train_text(len(text)) == text
    assert built.train_text(len(text) - 1) is None
    assert built.train_text(10) is None


def test_preparing_again_gives_the_same(built: Dataset, text_folder: Path, tmp_path: Path) -> None:
    again = prepare(DataConfig(text=text_folder, built=tmp_path / "built"), 300, has_gpu=True)
    elsewhere = prepare(DataConfig(source="text", text=text_folder, built=tmp_path / "other"), 300, has_gpu=False)
    assert again.train_shards == built.train_shards
    assert built.fingerprint == again.fingerprint == elsewhere.fingerprint
    assert "data.text is given" in built.why
    assert "\n" not in built.why
    more = prepare(DataConfig(text=text_folder, built=tmp_path / "built", val_fraction=0.3), 300, has_gpu=False)
    assert more.fingerprint != built.fingerprint


def test_too_few_validation_tokens_is_an_error(built: Dataset) -> None:
    with pytest.raises(InputError, match=r"validation tokens; a window of 100000 needs at least 100001"):
        built.val_tokens(100_000)


def test_shards_are_used_as_they_are(shards: DataConfig, built: Dataset) -> None:
    data = prepare(shards, 300, has_gpu=True)
    assert data.name == "fineweb10B_x"
    assert data.val_tokens(8).tolist() == built.val_tokens(8).tolist()
    assert data.train_stream().take(50).tolist() == built.train_stream().take(50).tolist()
    assert "data.source is shards" in data.why
    automatic = prepare(DataConfig(shards=shards.shards, tokenizer=shards.tokenizer), 300, has_gpu=True)
    assert "is there" in automatic.why
    assert automatic.fingerprint == data.fingerprint


@pytest.mark.parametrize("full", [True, False])
def test_the_fingerprint_follows_the_shards(shards: DataConfig, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    if not full:
        monkeypatch.setattr("golf_fast.data.dataset._FULL_HASH_BYTES", 10)
    first = prepare(shards, 300, has_gpu=False).fingerprint
    tokens = [1, *range(2, 100)]
    write_shard(shards.shards / "fineweb_train_000001.bin", tokens)
    second = prepare(shards, 300, has_gpu=False).fingerprint
    write_shard(shards.shards / "fineweb_train_000001.bin", tokens[::-1])
    third = prepare(shards, 300, has_gpu=False).fingerprint
    assert first != second
    assert (second != third) == full  # large shards are known by their sizes and headers


def test_a_tokenizer_of_another_size_is_an_error(shards: DataConfig) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.model: 300 pieces, but model\.vocab_size is 1024"):
        prepare(shards, 1024, has_gpu=False)


def test_shards_beside_their_manifest_are_those_it_lists_and_take_its_tokenizer(
    built: Dataset, tmp_path: Path, documents: list[str]
) -> None:
    folder = built.tokenizer_path.parent
    data = DataConfig(source="shards", shards=folder, tokenizer=built.tokenizer_path)
    assert prepare(data, 300, has_gpu=False).val_tokens(8).tolist() == built.val_tokens(8).tolist()
    other = tmp_path / "other.model"
    train_tokenizer(["".join(chr(0x430 + n * 7 % 32) if n % 5 else " " for n in range(20000))], 300, other)
    with pytest.raises(InputError, match=r"other\.model: has SHA-256 \w{12}, but by .*manifest\.json the shards"):
        prepare(DataConfig(source="shards", shards=folder, tokenizer=other), 300, has_gpu=False)
    write_shard(built.val_shards[0], built.val_tokens(1)[::-1])
    with pytest.raises(InputError, match=r"text_val_000000\.bin: has SHA-256 \w{12}, but .*manifest\.json says \w{12}"):
        prepare(data, 300, has_gpu=False)
    for another in ('{"shards": 3}', "{", '{"files": {"tokenizer.model": 1}}', "[]"):
        (folder / "manifest.json").write_text(another)  # somebody else's is passed over
        assert prepare(data, 300, has_gpu=False).vocab_size == 300


def test_another_tokenizer_of_the_same_size_is_said_where_no_hash_tells(shards: DataConfig, tmp_path: Path) -> None:
    assert "WARNING" not in prepare(shards, 300, has_gpu=False).why
    other = tmp_path / "other.model"
    train_tokenizer(["".join(chr(0x430 + n * 7 % 32) if n % 5 else " " for n in range(20000))], 300, other)
    why = prepare(replace(shards, tokenizer=other), 300, has_gpu=False).why
    found = re.search(
        rf"WARNING: {re.escape(str(other))} makes other tokens of the text of (\d+) of (\d+) documents", why
    )
    assert found
    assert int(found[1]) > 0.9 * int(found[2]) > 3
    assert "\n" not in why


def test_validation_ids_beyond_the_vocabulary_are_an_error(shards: DataConfig) -> None:
    write_shard(shards.shards / "fineweb_val_000000.bin", [1, 5, 300, 7])
    with pytest.raises(InputError, match=r"fineweb_val_000000\.bin: token 2 has id 300"):
        prepare(shards, 300, has_gpu=False).val_tokens(1)


def test_damaged_shards_are_found_before_the_run(shards: DataConfig) -> None:
    path = shards.shards / "fineweb_train_000000.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"fineweb_train_000000\.bin: .*truncated"):
        prepare(shards, 300, has_gpu=False)


def test_a_missing_tokenizer_is_an_error(shards: DataConfig, tmp_path: Path) -> None:
    data = DataConfig(source="shards", shards=shards.shards, tokenizer=tmp_path / "none.model")
    with pytest.raises(InputError, match=r"none\.model: cannot be read"):
        prepare(data, 300, has_gpu=False)


@pytest.mark.parametrize("has_gpu", [True, False])
def test_shards_that_were_asked_for_must_be_there(tmp_path: Path, has_gpu: bool) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder of shards"):
        prepare(DataConfig(shards=tmp_path / "nowhere"), 300, has_gpu)
    with pytest.raises(InputError, match=r"nowhere: no such folder of shards"):
        prepare(DataConfig(source="shards", shards=tmp_path / "nowhere"), 300, has_gpu)


def test_without_anything_the_embedded_corpus_is_for_cpus(
    documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few_documents() -> Corpus:
        return Corpus(name="embedded", origin="some documents", sha256="0" * 64, documents=lambda progress: documents)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("golf_fast.data.dataset.embedded_corpus", few_documents)
    with pytest.raises(InputError, match=r"no such folder of shards; .*--data\.source embedded"):
        prepare(DataConfig(), 300, has_gpu=True)
    data = prepare(DataConfig(), 300, has_gpu=False)
    assert data.name == "embedded"
    assert data.train_shards[0].is_relative_to("data/built")
    assert "nor a GPU" in data.why
    assert prepare(DataConfig(source="embedded"), 300, has_gpu=True).fingerprint == data.fingerprint


def test_the_tokenizer_has_not_seen_what_is_held_out(documents: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(documents):
        (folder / f"{number}.txt").write_text(f"{text}\nzq{number:02}" + f"w{number:02}qz" * 40)
    data = prepare(DataConfig(text=folder, built=tmp_path / "built"), 420, has_gpu=False)
    tokenizer: Tokenizer = data.tokenizer()
    held_out = [
        number for number in range(len(documents)) if f"zq{number:02}" in data.val_text(data.val_tokens(1)).decode()
    ]
    trained = [number for number in range(len(documents)) if number not in held_out]
    assert held_out

    def length(numbers: list[int]) -> float:
        return sum(len(tokenizer.encode(f"w{number:02}qz" * 40)) for number in numbers) / len(numbers)

    assert length(held_out) > length(trained)
