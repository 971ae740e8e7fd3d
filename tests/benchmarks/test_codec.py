"""The benchmark of the entropy coder runs, and counts what it should."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import codec
from golf_fast.compress import entropy


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A .safetensors file with two matrices that count, and an embedding and a vector that do not."""
    random = np.random.default_rng(0)
    tensors = {
        "a.weight": random.normal(size=(96, 128)) * 2 ** (random.normal(size=128) / 2),
        "b.weight": random.normal(size=(200, 64)) * 2 ** (random.normal(size=64) / 2),
        "b.bias": random.normal(size=200),
        "embeddings.weight": random.normal(size=(50, 60)),
    }
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        data = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_rows(weights: Path) -> None:
    tensors = codec.matrices(weights, 6)
    assert [each.shape for each in tensors] == [(96, 128), (200, 64)]
    rows = {row.coder: row for row in codec.measure(weights, 6, slow=False)}
    coded = sum(len(entropy.encode(each, 6)) for each in tensors)
    assert rows["rans"].bits_per_weight == pytest.approx(8 * coded / (96 * 128 + 200 * 64))
    assert rows["(ideal of its model)"].bits_per_weight < rows["rans"].bits_per_weight < rows["zstd-22"].bits_per_weight
