"""A sound folder passes, every kind of fault is named with its file, and nothing is written."""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golf_fast.console import exit_with
from golf_fast.data import Tokenizer, build_corpus, read_shard, text_corpus, write_shard
from golf_fast.data import check as module
from golf_fast.data import scan as scanning
from golf_fast.data.__main__ import main
from golf_fast.data.case_ops import OURS
from golf_fast.data.check import check
from golf_fast.errors import InputError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    (root / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return build_corpus(text_corpus(root / "text.jsonl"), 320, 0.3, root / "built").folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A folder as built, with its one training shard cut in three in the middle of documents, without a manifest."""
    copy = tmp_path / "shards"
    shutil.copytree(built, copy)
    (copy / "manifest.json").unlink()
    tokens = read_shard(copy / "text_train_000000.bin")
    third = len(tokens) // 3 + 1
    for number in range(3):
        write_shard(copy / f"text_train_{number:06d}.bin", tokens[number * third : (number + 1) * third])
    return copy


def test_a_built_folder_is_sound(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    found = check(built)
    assert (found.faults, found.warnings, found.variant) == ([], [], "")
    assert found.tokenizer == built / "tokenizer.model"
    for part in ("train", "val"):
        had = getattr(found, part)
        assert (had.tokens, had.documents) == (manifest[part]["tokens"], manifest[part]["documents"])
    assert found.val_bytes == manifest["val"]["bytes"]  # the first token is BOS and has none
    assert found.targets == (manifest["val"]["tokens"] - 1) // 2048 * 2048
    assert (found.shared, found.compared) == (0, manifest["val"]["documents"])


@pytest.mark.parametrize("piece", [7, 1000, 1 << 20])
def test_pieces_and_shards_make_no_difference(folder: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    whole = check(folder)
    monkeypatch.setattr(scanning, "PIECE_TOKENS", piece)
    assert replace(check(folder, workers=1), folder=folder) == whole
    assert whole.faults == []
    assert whole.train.shards == 3


def test_the_bytes_of_whole_rows(folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORED_ROW_TOKENS", 100)
    tokens = read_shard(folder / "text_val_000000.bin")
    model = Tokenizer(folder / "tokenizer.model")
    targets = (len(tokens) - 1) // 100 * 100
    wanted = len(model.decode_bytes(tokens[: targets + 1]))
    half = len(tokens) // 2
    write_shard(folder / "text_val_000000.bin", tokens[:half])
    write_shard(folder / "text_val_000001.bin", tokens[half:])
    found = check(folder)
    assert (found.targets, found.target_bytes) == (targets, wanted)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def foreign(path: Path) -> None:
    path.write_bytes(b"\0" * 4 + path.read_bytes()[4:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def beyond(path: Path) -> None:
    tokens = read_shard(path).copy()
    tokens[[5, 9]] = 320, 65535
    write_shard(path, tokens)


def hole(path: Path) -> None:
    tokens = np.tile(read_shard(path), 1 + 9000 // len(read_shard(path)))
    tokens[1000:7000] = 0
    write_shard(path, tokens)


def without_documents(path: Path) -> None:
    tokens = read_shard(path).copy()
    tokens[tokens == 1] = 2
    write_shard(path, tokens)


def copied(path: Path) -> None:
    shutil.copy(path.with_name("text_train_000000.bin"), path)


def gone(path: Path) -> None:
    path.unlink()


def leaking(path: Path) -> None:
    tokens = read_shard(path)
    write_shard(path, np.concatenate([read_shard(path.with_name("text_val_000000.bin")), tokens]))


def of_another_tokenizer(path: Path) -> None:
    for shard in sorted(path.parent.glob("*_train_*.bin")):
        tokens = read_shard(shard).copy()
        tokens[tokens > 1] = (tokens[tokens > 1] * 7) % 300 + 2
        write_shard(shard, tokens)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, r"text_train_000001\.bin: \d+ bytes, but \d+ tokens take \d+; it is truncated"),
        (foreign, r"text_train_000001\.bin: not a token shard \(magic 0"),
        (empty, r"text_train_000001\.bin: 0 bytes, shorter than the 1024-byte header"),
        (beyond, r"text_train_000001\.bin: token 5 has id 320, and 2 in all are beyond the vocabulary of 320"),
        (hole, r"text_train_000001\.bin: tokens 2,048 to 4,096 are all 0"),
        (without_documents, r"text_train_000001\.bin: no token 1 begins a document in its [\d,]+ tokens"),
        (copied, r"text_train_000001\.bin: holds the documents of \S+text_train_000000\.bin once more"),
        (gone, r"shards: of 3 train shards by their numbers, 1 are missing: 000001"),
        (leaking, r"shards: 11 of 12 validation documents are training documents too"),
        (of_another_tokenizer, r"text_train_000000\.bin: \S+tokenizer\.model makes other tokens of the text of"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_named(folder: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(folder / "text_train_000001.bin")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    found = check(folder)
    assert len(found.faults) == 1, found.faults
    assert re.search(says, found.faults[0]), found.faults[0]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_manifest_says_is_compared(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    tokens = read_shard(copy / "text_val_000000.bin").copy()
    tokens[7] = 3 if tokens[7] != 3 else 4
    write_shard(copy / "text_val_000000.bin", tokens)
    (fault,) = check(copy).faults
    assert "text_val_000000.bin: has SHA-256 " in fault
    assert "manifest.json says" in fault


def fetched(folder: Path, root: Path, variant: str) -> Path:
    """The shards where `fetch` puts them, with its record."""
    shards = root / "data" / "datasets" / f"fineweb10B_{variant}"
    shards.mkdir(parents=True)
    tokenizers = root / "data" / "tokenizers"
    tokenizers.mkdir()
    shutil.copy(folder / "tokenizer.model", tokenizers / "fineweb_1024_bpe.model")
    sources = {}
    for path in folder.glob("*.bin"):
        name = path.name.replace("text_", "fineweb_")
        shutil.copy(path, shards / name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sources[f"datasets/{shards.name}/{name}"] = {"sha256": digest}
    (root / "data" / "sources.json").write_text(json.dumps(sources))
    return shards


def test_a_variant_has_its_totals(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = fetched(folder, tmp_path / "fetched", "sp1024")
    found = check(shards)
    assert found.variant == "sp1024"
    assert found.tokenizer is not None
    assert found.tokenizer.name == "fineweb_1024_bpe.model"
    assert any(f"{found.targets:,} validation tokens are scored" in fault for fault in found.faults)
    assert any("320 pieces, but sp1024 has 1024" in fault for fault in found.faults)
    monkeypatch.setattr(module, "VALIDATION_TARGETS", {"sp1024": found.targets})
    monkeypatch.setattr(module, "VALIDATION_BYTES", {"sp1024": (found.target_bytes or 0) + 1})
    monkeypatch.setattr(module, "_vocab_size", lambda variant, model: 320)
    (fault,) = check(shards).faults
    assert f"stand for {found.target_bytes:,} bytes, but those of sp1024 for {found.target_bytes + 1:,}" in fault
    monkeypatch.setattr(module, "VALIDATION_BYTES", {"sp1024": found.target_bytes})
    assert check(shards).faults == []
    beyond(shards / "fineweb_train_000000.bin")
    assert [("sources.json says" in fault) for fault in check(shards).faults] == [False, True]


def test_known_totals_are_those_of_the_published_split() -> None:
    from golf_fast import rules

    assert set(rules.VALIDATION_BYTES) <= set(rules.VALIDATION_TARGETS)
    assert f"{rules.VALIDATION_BYTES['sp1024'] / rules.VALIDATION_TARGETS['sp1024']:.5f}" == "2.43593"


def test_without_a_tokenizer_no_bytes_are_counted(folder: Path) -> None:
    (folder / "tokenizer.model").unlink()
    found = check(folder)
    assert (found.faults, found.tokenizer, found.val_bytes) == ([], None, None)
    assert "bytes are not counted" in "\n".join(found.lines())


def test_a_part_that_lacks_is_said(folder: Path) -> None:
    for path in folder.glob("*_train_*.bin"):
        path.unlink()
    found = check(folder)
    assert found.val.shards == 1
    assert [warning.partition(": ")[2] for warning in found.warnings] == ["no *_train_*.bin: it cannot be trained on"]
    assert found.shared is None


def test_bytes_beside_the_tokens_are_those_of_the_text(text_folder: Path, tmp_path: Path) -> None:
    folder = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path, case_ops=OURS).folder
    (beside,) = folder.glob("*_val_bytes_*.bin")
    numbers = read_shard(beside).copy()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    assert check(folder).faults == []
    assert check(folder).val_bytes == manifest["val"]["bytes"] == int(numbers.sum())
    numbers[5] += 1
    write_shard(beside, numbers)
    (warning,) = check(folder).warnings
    assert f"{numbers.sum():,} bytes in all, but {manifest['val']['bytes']:,} by the pieces of the tokenizer" in warning
    write_shard(beside, numbers + 1)
    assert "token 0 begins a document, but by its side-car it stands for 1" in check(folder).faults[0]
    write_shard(beside, np.where(numbers > 0, 2 * numbers, 0))
    assert "one of both is of another text" in check(folder).faults[0]
    write_shard(beside, numbers[:-1])
    assert "get both again" in check(folder).faults[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variant": "sp3"}, "variant sp3: it must be one of sp1024"),
        ({"tokenizer": Path("no.model")}, "no.model"),
        ({"workers": 0}, "workers is 0: it must be at least 1"),
    ],
)
def test_what_cannot_be_checked_is_an_error(folder: Path, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check(folder, **options)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["data", "check", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        exit_with(main)
    return int(caught.value.code or 0)


def test_the_program_says_it_by_its_exit_code(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, folder) == 0
    assert "no fault found" in capsys.readouterr().out
    cut(folder / "text_val_000000.bin")
    assert run(monkeypatch, folder, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is False
    assert told["train"]["shards"] == 3
    assert "text_val_000000.bin" in told["faults"][0]
    assert run(monkeypatch, tmp_path / "nowhere") == 2
    (tmp_path / "empty").mkdir()
    assert run(monkeypatch, tmp_path / "empty") == 2
