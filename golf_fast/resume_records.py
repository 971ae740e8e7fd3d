"""Records that a run stores so that it can be resumed: plain values and tensors under one name, either complete and
verified or absent.

A record is two files: `NAME.safetensors` with the tensors and, written once that is on the disk, `NAME.json` with the
plain values and the SHA-256 of both.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open

from golf_fast import json_files
from golf_fast.errors import InputError
from golf_fast.files import replacing, sha256

_NEEDED = "a record of a run is needed"
_FORMAT = 1
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}
"""Names of the dtypes in the safetensors format."""


@dataclass(frozen=True)
class Record:
    """A record that was read and checked.

    Attributes:
        path: the file of its tensors.
        fields: its plain values, by name.
    """

    path: Path
    fields: dict[str, Any]

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor `name`, on the CPU.

        Raises:
            InputError: the record has no tensor of this name.
        """
        return self.rows(name, 0, None)

    def rows(self, name: str, first: int, count: int | None) -> torch.Tensor:
        """Rows `[first, first + count)` of the tensor `name`, or all rows from `first` on, on the CPU.

        Raises:
            InputError: the record has no tensor of this name.
        """
        with _opened(self.path) as file:
            if name not in file.keys():  # noqa: SIM118 (it is no mapping)
                raise InputError(f"{self.path}: holds no {name}")
            if first == 0 and count is None:
                found: torch.Tensor = file.get_tensor(name)
                return found
            rows: torch.Tensor = file.get_slice(name)[first : None if count is None else first + count]
            return rows

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors of the record by name, on the CPU."""
        with _opened(self.path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write(path: Path, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a record.

    Args:
        path: path of the record, without a suffix.
        fields: values that JSON can hold; numbers must be finite.
        tensors: contiguous tensors on the CPU; nobody may write to them meanwhile.

    Raises:
        InputError: the folder cannot be made or written, or its disk is full.
    """
    hashed = hashlib.sha256()
    with replacing(tensor_file(path)) as file:
        _write(tensors or {}, file, hashed.update)
    with replacing(marker(path), "w") as file:
        text = json.dumps(fields, sort_keys=True, allow_nan=False)
        held = {"format": _FORMAT, "sha256": hashed.hexdigest(), "fields_sha256": _hash(text)}
        file.write(f'{json.dumps(held)[:-1]}, "fields": {text}}}\n')


def read(path: Path, *, check: bool = True) -> Record:
    """The record at `path`.

    Args:
        path: as for `write`.
        check: whether the tensors are compared with their SHA-256; one process may do it for several.

    Raises:
        InputError: a file of the record is missing, damaged, or of another version of the format.
    """
    held = json_files.read_object(marker(path), _NEEDED)
    if held.get("format") != _FORMAT or not isinstance(held.get("fields"), dict):
        raise InputError(f"{marker(path)}: is no record of this version")
    if _hash(json.dumps(held["fields"], sort_keys=True)) != held.get("fields_sha256"):
        raise InputError(f"{marker(path)}: is damaged, its values do not have the SHA-256 that it says")
    if check and sha256(tensor_file(path), _NEEDED) != held.get("sha256"):
        raise InputError(f"{tensor_file(path)}: is damaged, its SHA-256 is not what {marker(path).name} says")
    return Record(tensor_file(path), held["fields"])


def drop(path: Path) -> None:
    """Remove a record, its marker first; errors are ignored."""
    for file in (marker(path), tensor_file(path)):
        with contextlib.suppress(OSError):
            file.unlink()


def marker(path: Path) -> Path:
    """The JSON file of the record at `path`; its existence means that the record is complete."""
    return path.with_name(f"{path.name}.json")


def tensor_file(path: Path) -> Path:
    """The safetensors file of the record at `path`."""
    return path.with_name(f"{path.name}.safetensors")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(tensors: Mapping[str, torch.Tensor], file: IO[bytes], hashed: Callable[[Any], None]) -> None:
    """Write tensors in the safetensors format, and hash the bytes that are written.

    The library's own `save` copies all tensors and holds the interpreter lock meanwhile; this can write 400 MB in a
    thread while another one trains.
    """
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        assert tensor.is_contiguous(), name
        assert tensor.device.type == "cpu", name
        end = offset + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    begin = len(text).to_bytes(8, "little") + text
    content: Iterator[Any] = (tensor.detach().reshape(-1).view(torch.uint8).numpy() for tensor in tensors.values())
    for piece in itertools.chain([begin], content):
        file.write(piece)
        hashed(piece)


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # the library has an exception of its own, and raises OSError too
        raise InputError(f"{path}: cannot be read ({error}); {_NEEDED}") from error
