"""Breaks the size of an artifact down by tensor."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golf_fast.compress.artifact.container import Artifact
from golf_fast.compress.artifact.header import Header
from golf_fast.compress.artifact.parts import PIECE, part_of, spec_of
from golf_fast.compress.stored import Stored


@dataclass(frozen=True)
class Share:
    """The share of one tensor in the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    """Dtype of a raw tensor's data, or of the scales of a quantized one."""
    codecs: tuple[str, ...]
    elements: int
    entropy: float
    """Order-0 entropy in bits per element, scales included: what an ideal coder of independent bytes would need."""
    size: float
    """Size in the file, in bytes. A blob that several tensors share is divided among them by their entropies."""

    @property
    def bits(self) -> float:
        """Bits per element in the file."""
        return 8 * self.size / max(self.elements, 1)

    @property
    def form(self) -> str:
        """The kind, or the dtype of a tensor that is not quantized."""
        return self.dtype if self.kind == "raw" else self.kind


@dataclass(frozen=True)
class Group:
    """The share in the file of one tensor, or of the same tensor of all blocks."""

    name: str
    """Name of the tensor, with `*` for the number of the block if the group spans blocks."""
    form: str
    """Form of the numbers and the codecs that are used for it, such as `int6: rans+zstd`."""
    size: float
    """Size in the file, in bytes."""
    entropy: float
    """Order-0 entropy, in bytes."""


def groups(found: list[Share], most: int = 30) -> list[Group]:
    """Groups of tensors for a picture, the largest first: one per tensor if there are at most `most`.

    Otherwise the same tensor of all blocks is one group, as far as it has one form.
    """
    members: dict[tuple[str, str], list[Share]] = defaultdict(list)
    codecs: dict[str, set[str]] = defaultdict(set)
    for share in found:
        name = share.name if len(found) <= most else re.sub(r"\bblocks\.\d+\.", "blocks.*.", share.name)
        members[name, share.form].append(share)
        codecs[share.form].update(share.codecs)
    made = [
        Group(
            name,
            f"{form}: {'+'.join(sorted(codecs[form]))}",
            sum(share.size for share in group),
            sum(share.entropy * share.elements for share in group) / 8,
        )
        for (name, form), group in members.items()
    ]
    return sorted(made, key=lambda group: (-group.size, group.name))


def shares(artifact: Artifact) -> list[Share]:
    """One `Share` per tensor, in the header's order; together with `overhead` they add up to the size of the file."""
    header = artifact.header
    entropies = [part_entropies(spec.name, artifact.tensors[spec.name]) for spec in header.tensors]
    sizes = [0.0] * len(header.tensors)
    codecs: list[set[str]] = [set() for _ in header.tensors]
    for blob in header.blobs:
        # A little of the raw size is added, so that parts without entropy divide their blob by length.
        weights = [
            entropies[position][blob.part] + header.tensors[position].parts()[blob.part] / 1000
            for position in blob.tensors
        ]
        for position, weight in zip(blob.tensors, weights, strict=True):
            sizes[position] += blob.size * weight / (sum(weights) or 1.0)
            codecs[position].add(blob.codec)
    return [
        Share(
            spec.name,
            spec.kind,
            spec.shape,
            spec.dtype,
            tuple(sorted(codecs[position])),
            spec.elements,
            8 * sum(entropies[position].values()) / max(spec.elements, 1),
            sizes[position],
        )
        for position, spec in enumerate(header.tensors)
    ]


def overhead(header: Header, size: int) -> int:
    """Bytes of a file that belong to no tensor: header, magic, checksum."""
    return size - sum(blob.size for blob in header.blobs)


def part_entropies(name: str, stored: Stored) -> dict[str, float]:
    """The order-0 entropy of each part in bytes, by the name of the part."""
    return {part: _entropy_bytes(part_of(stored, part)) for part in spec_of(name, stored).parts()}


def _entropy_bytes(raw: npt.NDArray[np.uint8]) -> float:
    counts = np.zeros(256)
    for start in range(0, raw.size, PIECE):  # in pieces, since bincount takes 8 bytes of memory for each byte
        counts += np.bincount(raw[start : start + PIECE], minlength=256)
    present = counts[counts > 0]
    return float((present * np.log2(counts.sum() / present)).sum() / 8)


def forms(tensors: Mapping[str, Stored]) -> list[tuple[str, int, int]]:
    """(form, number of tensors, number of elements) for each form, raw ones first, then by width."""
    specs = [spec_of(name, stored) for name, stored in tensors.items()]
    counts, elements = Counter[str](), Counter[str]()
    for spec in specs:
        form = f"raw {spec.dtype}" if spec.kind == "raw" else spec.kind
        counts[form] += 1
        elements[form] += spec.elements
    return [(form, counts[form], elements[form]) for form in sorted(counts, key=lambda form: (form[0] != "r", form))]
