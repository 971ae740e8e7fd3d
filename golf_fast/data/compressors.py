"""General-purpose compressors on the same text, as baselines for a model."""

import lzma
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import zstandard


@dataclass(frozen=True)
class Baseline:
    """The result of a compressor on the validation text.

    Attributes:
        name: name of the compressor, and whether it saw the training text first.
        bits_per_byte: compressed bits per byte of the validation text.
        seconds: wall time in seconds, with two compressors running at a time.
    """

    name: str
    bits_per_byte: float
    seconds: float


def byte_compressors(train_text: bytes | None, val_text: bytes) -> list[Baseline]:
    """Results of zstd -22 and xz -9e on the validation text by itself and, if it is given, after the training text.

    After the training text means: the compressed size of both together minus that of the training text. The window of
    zstd spans both; that of xz -9e is 64 MiB.

    Args:
        train_text: UTF-8 bytes, or None to leave those two out.
        val_text: UTF-8 bytes, at least one.
    """
    assert val_text, "no validation text"
    compressors: dict[str, Callable[[bytes], int]] = {"zstd -22": _zstd_size, "xz -9e": _xz_size}

    def alone(name: str) -> Baseline:
        start = time.perf_counter()
        size = compressors[name](val_text)
        return Baseline(name, 8 * size / len(val_text), time.perf_counter() - start)

    def after(name: str, text: bytes) -> Baseline:
        start = time.perf_counter()
        size = compressors[name](text + val_text) - compressors[name](text)
        return Baseline(f"{name} after the training text", 8 * size / len(val_text), time.perf_counter() - start)

    with ThreadPoolExecutor(2) as threads:  # both libraries release the interpreter lock
        jobs = [threads.submit(alone, name) for name in compressors]
        if train_text is not None:
            jobs += [threads.submit(after, name, train_text) for name in compressors]
        return [job.result() for job in jobs]


def _zstd_size(text: bytes) -> int:
    window = min(max(len(text).bit_length(), zstandard.WINDOWLOG_MIN), zstandard.WINDOWLOG_MAX)
    parameters = zstandard.ZstdCompressionParameters.from_level(22, source_size=len(text), window_log=window)
    return len(zstandard.ZstdCompressor(compression_params=parameters).compress(text))


def _xz_size(text: bytes) -> int:
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
