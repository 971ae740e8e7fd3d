"""Checks a folder of shards for damage and against its variant; reports every fault and writes nothing."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from golf_fast import json_files
from golf_fast.checks import require
from golf_fast.data.build import MANIFEST, TOKENIZER, listed_hashes
from golf_fast.data.dataset import DOUBTED_TOKENS
from golf_fast.data.documents import Progress, no_progress
from golf_fast.data.fetch import SOURCES
from golf_fast.data.loader import TokenStream
from golf_fast.data.scan import BLOCK_TOKENS, Scan, joined, scan
from golf_fast.data.shards import Shard, side_cars, visible
from golf_fast.data.tokenizer import Tokenizer
from golf_fast.data.validation import Validation
from golf_fast.errors import InputError
from golf_fast.files import sha256
from golf_fast.rules import SCORED_ROW_TOKENS, VALIDATION_BYTES, VALIDATION_TARGETS, variant_of

SHARED_DOCUMENTS = 0.01
"""Greatest share of validation documents that may also be training documents; the public text has a few pages twice."""
_NORMALIZED = 0.005
"""Greatest relative difference of bytes between a side-car and the pieces of a tokenizer that normalizes its text."""


@dataclass(frozen=True)
class Part:
    """The shards of one part, training or validation, that could be read."""

    shards: int = 0
    tokens: int = 0
    documents: int = 0
    smallest: int = 0
    largest: int = 0


@dataclass
class Check:
    """The result of a check.

    Attributes:
        folder: the folder of the shards.
        variant: variant of the challenge's data, a key of `rules.VALIDATION_TARGETS`; "" for other data.
        tokenizer: file of the tokenizer; None: there is none, and no bytes are counted.
        train, val: content of the two parts.
        targets: number of validation tokens that are scored, in whole rows of `rules.SCORED_ROW_TOKENS`.
        target_bytes: number of UTF-8 bytes that they stand for; `val_bytes` is that of all validation tokens but the
            first.
        shared: number of validation documents that are also training documents, token for token; None: a part is
            missing.
        compared: number of validation documents that were compared.
        faults: sentences, each beginning with a file or folder, on what makes the data unusable or contradicts the
            variant.
        warnings: sentences of the same form on what does not make the data unusable.
    """

    folder: Path
    variant: str = ""
    tokenizer: Path | None = None
    train: Part = field(default_factory=Part)
    val: Part = field(default_factory=Part)
    targets: int = 0
    target_bytes: int | None = None
    val_bytes: int | None = None
    shared: int | None = None
    compared: int = 0
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with `sound`: whether there is no fault."""
        plain = {name: vars(value) if isinstance(value, Part) else value for name, value in vars(self).items()}
        return plain | {
            "folder": str(self.folder),
            "tokenizer": str(self.tokenizer) if self.tokenizer else None,
            "sound": not self.faults,
        }

    def lines(self) -> Iterator[str]:
        """The result as lines for people."""
        yield f"{self.folder}: {self.variant or 'no known variant'}, {self._tokenizer_in_words()}"
        for name, part in (("train", self.train), ("val", self.val)):
            ids = f", ids {part.smallest} to {part.largest}" if part.tokens else ""
            yield f"  {name:5} {part.shards:>4} shards {part.tokens:>14,} tokens {part.documents:>11,} documents{ids}"
        if self.targets:
            counted = ""
            if self.target_bytes is not None:
                counted = f", {self.target_bytes:,} bytes of text ({self.target_bytes / self.targets:.5f} a token)"
            yield f"  scored: {self.targets:,} tokens in rows of {SCORED_ROW_TOKENS:,}{counted}"
        if self.shared is not None:
            yield f"  {self.shared:,} of {self.compared:,} validation documents are training documents too"
        yield from (f"warning: {warning}" for warning in self.warnings)
        yield from (f"fault: {fault}" for fault in self.faults)
        yield "no fault found" if not self.faults else f"{len(self.faults)} fault(s)"

    def _tokenizer_in_words(self) -> str:
        if self.tokenizer:
            return f"tokenizer {self.tokenizer}"
        return "no tokenizer given or found beside it: bytes are not counted"


def check(
    folder: Path,
    tokenizer: Path | None = None,
    variant: str | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Check:
    """Read every shard of a folder once, several at a time, and compare the content with what is expected.

    Args:
        folder: the folder of `*_train_*.bin` and `*_val_*.bin` shards.
        tokenizer: the SentencePiece model; None: the one in the folder, or where `fetch` puts it.
        variant: a key of `rules.VALIDATION_TARGETS`, or "" for other data; None: by the folder's name.
        workers: number of shards that are read at a time; None: the number of cores, at most 16.
        progress: called with the number of shards that were read.

    Raises:
        InputError: the folder does not exist or has no shard, `workers` is less than 1, the variant is unknown, or the
            tokenizer cannot be used.
    """
    if variant and variant not in VALIDATION_TARGETS:
        raise InputError(f"variant {variant}: it must be one of {', '.join(VALIDATION_TARGETS)}")
    if workers is not None:
        require(workers >= 1, "workers", workers, "at least 1")
    found = Check(folder, variant_of(folder.resolve().name) if variant is None else variant)
    paths = {
        "train": visible(folder, "*_train_*.bin"),
        "val": [path for path in visible(folder, "*_val_*.bin") if not path.match("*_val_bytes_*.bin")],
    }
    if not any(paths.values()):
        raise InputError(
            f"{folder}: none of its {len(visible(folder, '*'))} files is named *_train_*.bin or *_val_*.bin"
        )
    found.tokenizer = tokenizer or _beside(folder, found.variant)
    model = Tokenizer(found.tokenizer) if found.tokenizer else None
    hashes = _recorded_hashes(folder)
    with ThreadPoolExecutor(workers or min(16, os.cpu_count() or 1)) as pool:
        read = partial(_read, vocab_size=_vocab_size(found.variant, model), model=model, hashes=hashes)
        both = {}
        for part in ("val", "train"):
            results = []
            for number, result in enumerate(pool.map(partial(read, part), paths[part]), start=1):
                results.append(result)
                progress(f"read {part} shards", number, len(paths[part]))
            found.faults += [fault for _, faults in results for fault in faults]
            both[part] = [each for each, _ in results]
    found.train, found.val = _part(both["train"]), _part(both["val"])
    _check_names(found, paths)
    _check_copies(found, paths["train"], both["train"])
    if model:
        _check_tokenizer(found, model, [*paths["train"], *paths["val"]], [*both["train"], *both["val"]])
    _count(found, paths["val"], both["val"], model)
    _check_totals(found)
    _check_overlap(found, both)
    return found


def _read(
    part: str, path: Path, vocab_size: int | None, model: Tokenizer | None, hashes: dict[str, tuple[str, Path]]
) -> tuple[Scan | None, list[str]]:
    """The content of a shard, and the faults that it has by itself."""
    faults = []
    try:
        found = scan(path, vocab_size, model.token_bytes() if model and part == "val" else None)
        if found.beyond:
            faults.append(
                f"{path}: token {found.beyond.position:,} has id {found.beyond.token}, and {found.beyond.count:,} in "
                f"all are beyond the vocabulary of {vocab_size}; the shard is damaged or of another variant"
            )
        if found.hole is not None:
            faults.append(f"{path}: tokens {found.hole:,} to {found.hole + BLOCK_TOKENS:,} are all 0; get it again")
        if not found.documents:
            faults.append(f"{path}: no token 1 begins a document in its {found.tokens:,} tokens")
        wanted, source = hashes.get(path.name, ("", path))
        if wanted and (had := sha256(path)) != wanted:
            faults.append(f"{path}: has SHA-256 {had[:12]}, but {source} says {wanted[:12]}; get or build it again")
    except InputError as error:
        return None, [str(error)]
    return found, faults


def _beside(folder: Path, variant: str) -> Path | None:
    """The only tokenizer in the folder, else that of the variant where `fetch` puts it."""
    beside = visible(folder, "*.model")
    if beside:
        return beside[0] if len(beside) == 1 else None
    place = folder.resolve().parents[1] / "tokenizers" if len(folder.resolve().parents) > 1 else folder
    size = re.match(r"sp(\d+)", variant)
    if not size or not place.is_dir():
        return None
    named = [path for path in visible(place, f"*_{size[1]}_*.model") if ("caseops" in path.name) == ("_" in variant)]
    return named[0] if len(named) == 1 else None


def _vocab_size(variant: str, model: Tokenizer | None) -> int | None:
    if model:
        return model.vocab_size
    size = re.match(r"sp(\d+)", variant)
    return int(size[1]) if size else None


def _recorded_hashes(folder: Path) -> dict[str, tuple[str, Path]]:
    """The recorded SHA-256 of each file and the file that records it (a manifest, or the record of `fetch`), by
    name."""
    found = {name: (wanted, folder / MANIFEST) for name, wanted in listed_hashes(folder / MANIFEST).items()}
    sources = folder.resolve().parents[1] / SOURCES if len(folder.resolve().parents) > 1 else folder / SOURCES
    if sources.is_file():
        for name, entry in json_files.read_object(sources, "the record of a download is needed").items():
            path = Path(name)
            if path.parent.name == folder.resolve().name and isinstance(entry, dict) and "sha256" in entry:
                found.setdefault(path.name, (str(entry["sha256"]), sources))
    return found


def _part(scans: Iterable[Scan | None]) -> Part:
    there = [each for each in scans if each is not None]
    if not there:
        return Part()
    return Part(
        len(there),
        sum(each.tokens for each in there),
        sum(each.documents for each in there),
        min(each.smallest for each in there),
        max(each.largest for each in there),
    )


def _check_names(found: Check, paths: dict[str, list[Path]]) -> None:
    for part, shards in paths.items():
        if not shards:
            what = "trained on" if part == "train" else "scored"
            found.warnings.append(f"{found.folder}: no *_{part}_*.bin: it cannot be {what}")
        numbers = [int(match[1]) for path in shards if (match := re.search(r"_(\d+)\.bin$", path.name))]
        missing = sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers))
        if missing:
            said = ", ".join(f"{number:06d}" for number in missing[:10])
            found.faults.append(
                f"{found.folder}: of {max(numbers) + 1} {part} shards by their numbers, {len(missing)} are missing: "
                f"{said}"
            )


def _check_copies(found: Check, paths: list[Path], scans: list[Scan | None]) -> None:
    seen: dict[tuple[int, bytes], Path] = {}
    for path, each in zip(paths, scans, strict=True):
        if each is not None and len(each.hashes):
            key = (each.tokens, each.hashes.tobytes())
            if key in seen:
                found.faults.append(f"{path}: holds the documents of {seen[key]} once more")
            seen.setdefault(key, path)
    full = max((each.tokens for each in scans if each is not None), default=0)
    for path, each in list(zip(paths, scans, strict=True))[:-1]:
        if each is not None and each.tokens < full:
            found.warnings.append(
                f"{path}: {each.tokens:,} tokens, where others have {full:,}; only the last is shorter"
            )


def _check_tokenizer(found: Check, model: Tokenizer, paths: list[Path], scans: list[Scan | None]) -> None:
    wanted = listed_hashes(found.folder / MANIFEST).get(TOKENIZER)
    if wanted is not None and wanted != model.sha256:
        found.faults.append(
            f"{model.path}: has SHA-256 {model.sha256[:12]}, but {found.folder / MANIFEST} says {wanted[:12]}"
        )
    known = _vocab_size(found.variant, None)
    if known is not None and known != model.vocab_size:
        found.faults.append(f"{model.path}: {model.vocab_size} pieces, but {found.variant} has {known}")
    readable = [path for path, each in zip(paths, scans, strict=True) if each is not None]
    if readable and (doubt := model.doubt(Shard(readable[0]).read(0, DOUBTED_TOKENS))):
        found.faults.append(f"{readable[0]}: {doubt}")


def _count(found: Check, paths: list[Path], scans: list[Scan | None], model: Tokenizer | None) -> None:
    """Count the scored targets and their bytes over all validation shards, if all could be read."""
    there = [each for each in scans if each is not None]
    if not there or len(there) < len(scans):
        return
    found.targets = (found.val.tokens - 1) // SCORED_ROW_TOKENS * SCORED_ROW_TOKENS
    if model is None or any(each.text_bytes is None for each in there):
        return
    table = model.token_bytes()
    between = [(before.last, after.first) for before, after in itertools.pairwise(there)]
    joints = sum(int(table.count([before], [after])[0]) for before, after in between)
    found.val_bytes = sum(each.text_bytes or 0 for each in there) + joints
    tail = TokenStream(paths, model.vocab_size).read(found.targets, found.val.tokens - found.targets)
    found.target_bytes = found.val_bytes - int(table.along(tail).sum())
    _compare_with_side_cars(found, paths)


def _compare_with_side_cars(found: Check, paths: list[Path]) -> None:
    """Use the bytes of the side-cars, as a score does, and compare them with those of the tokenizer."""
    try:
        beside = side_cars(paths)
        if not beside:
            return
        tokens, numbers = (TokenStream(files, 65536).read(0, found.val.tokens) for files in (paths, beside))
        validation = Validation.recorded(tokens, numbers)
    except InputError as error:
        found.faults.append(str(error))
        return
    pieces, found.val_bytes = found.val_bytes or 0, validation.bytes
    found.target_bytes = int(validation.byte_counts[: found.targets].sum(dtype=np.int64))
    off = f"{beside[0]}: {validation.bytes:,} bytes in all, but {pieces:,} by the pieces of the tokenizer"
    if abs(validation.bytes - pieces) > _NORMALIZED * pieces:
        found.faults.append(f"{off}; one of both is of another text")
    elif validation.bytes != pieces:
        found.warnings.append(f"{off}, which may be so where it normalizes text")


def _check_totals(found: Check) -> None:
    wanted = VALIDATION_TARGETS.get(found.variant)
    if found.targets and wanted not in (None, found.targets):
        found.faults.append(
            f"{found.folder}: {found.targets:,} validation tokens are scored, but the whole split of {found.variant} "
            f"has {wanted:,}"
        )
    of_text = VALIDATION_BYTES.get(found.variant)
    if found.target_bytes is not None and of_text not in (None, found.target_bytes) and wanted == found.targets:
        found.faults.append(
            f"{found.folder}: the scored tokens stand for {found.target_bytes:,} bytes, but those of {found.variant} "
            f"for {of_text:,}: other tokens, or another tokenizer"
        )


def _check_overlap(found: Check, both: dict[str, list[Scan | None]]) -> None:
    train, val = (joined([each for each in both[part] if each is not None]) for part in ("train", "val"))
    found.compared = len(val)
    if not len(train) or not len(val):
        return
    found.shared = int(np.isin(val, train, assume_unique=True).sum())
    if found.shared:
        said = f"{found.folder}: {found.shared:,} of {len(val):,} validation documents are training documents too"
        (found.faults if found.shared > SHARED_DOCUMENTS * len(val) else found.warnings).append(said)
