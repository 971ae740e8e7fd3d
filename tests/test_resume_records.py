"""Records that a run goes on from: whole and unharmed, or not there."""

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from golf_fast import resume_records
from golf_fast.errors import InputError

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).reshape(4, 3),
    "half": torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "none": torch.empty(0, 5),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "count": torch.tensor([3]),
}
FIELDS = {"elapsed": 0.1 + 0.2, "steps": [1, 2], "nested": {"b": 1, "a": None}}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    resume_records.write(tmp_path / "folder" / "name", FIELDS, TENSORS)
    found = resume_records.read(tmp_path / "folder" / "name")
    assert found.fields == FIELDS
    assert same(found.tensors(), TENSORS)
    assert torch.equal(found.rows("a", 1, 2), TENSORS["a"][1:3])
    assert found.rows("a", 4, 0).shape == (0, 3)
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"name.json", "name.safetensors"}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    resume_records.write(tmp_path / "name", {}, TENSORS)
    assert same(safetensors.torch.load_file(tmp_path / "name.safetensors"), TENSORS)


@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_a_changed_byte_anywhere_or_a_missing_end_is_found(tmp_path: Path, ending: str) -> None:
    resume_records.write(tmp_path / "name", FIELDS, {"a": TENSORS["a"]})
    file = tmp_path / f"name.{ending}"
    content = file.read_bytes()
    for place in range(len(content) - 1):  # the last of the JSON is its line end
        changed = bytearray(content)
        changed[place] ^= 4
        file.write_bytes(changed)
        with pytest.raises(InputError):
            resume_records.read(tmp_path / "name")
    for length in range(0, len(content) - 1, 7):
        file.write_bytes(content[:length])
        with pytest.raises(InputError):
            resume_records.read(tmp_path / "name")
    file.write_bytes(content)
    assert resume_records.read(tmp_path / "name").fields == FIELDS


def test_a_record_without_its_marker_is_none(tmp_path: Path) -> None:
    resume_records.write(tmp_path / "name", FIELDS, TENSORS)
    resume_records.marker(tmp_path / "name").unlink()
    with pytest.raises(InputError, match=r"name\.json: cannot be read \(No such file or directory\)"):
        resume_records.read(tmp_path / "name")


def test_what_is_not_in_a_record_is_named(tmp_path: Path) -> None:
    resume_records.write(tmp_path / "name", FIELDS, TENSORS)
    with pytest.raises(InputError, match="holds no b"):
        resume_records.read(tmp_path / "name").tensor("b")


def test_a_dropped_record_is_gone(tmp_path: Path) -> None:
    resume_records.write(tmp_path / "name", FIELDS, TENSORS)
    resume_records.drop(tmp_path / "name")
    resume_records.drop(tmp_path / "name")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        resume_records.write(tmp_path / "file" / "name", FIELDS, TENSORS)
    shutil.rmtree(tmp_path)
