import subprocess
import sys
from pathlib import Path

import pytest
import torch

from golf_fast.compress import quantize, read_artifact, write_artifact
from golf_fast.compress.inspection import overhead, shares
from golf_fast.config import CompressConfig


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "tok_emb.weight": torch.randn(100, 100, generator=generator),
        "blocks.0.mlp.fc.weight": torch.randn(100, 100, generator=generator),
        "blocks.1.mlp.fc.weight": torch.zeros(100, 100),
        "blocks.0.attn.c_q.weight": torch.randn(100, 100, generator=generator),
        "q_gain": torch.ones(8),
        "none": torch.zeros(0, 3),
    }
    path = tmp_path / "a.golf"
    config = CompressConfig()
    write_artifact(path, quantize(weights, config), {}, config)
    return path


def test_shares_add_up_to_the_file(artifact: Path) -> None:
    held = read_artifact(artifact)
    found = shares(held)
    assert [share.name for share in found] == sorted(held.tensors)
    assert sum(share.size for share in found) + overhead(held.header, held.size) == pytest.approx(
        artifact.stat().st_size
    )


def test_bits_and_entropy_of_a_tensor(artifact: Path) -> None:
    found = {share.name: share for share in shares(read_artifact(artifact))}
    int6 = found["blocks.0.attn.c_q.weight"]
    assert int6.kind == "int6"
    assert 4.5 < int6.entropy < int6.bits < 6.2
    assert found["blocks.1.mlp.fc.weight"].entropy == 0
    assert found["blocks.1.mlp.fc.weight"].bits < 0.1
    assert found["none"].bits == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "golf_fast.compress", *arguments], capture_output=True, text=True)


def test_command_prints_a_line_for_each_tensor(artifact: Path) -> None:
    done = run("inspect", str(artifact))
    assert done.returncode == 0, done.stderr
    for name in read_artifact(artifact).tensors:
        assert sum(line.startswith(f"{name} ") for line in done.stdout.splitlines()) == 1
    assert f"{artifact.stat().st_size:,} bytes" in done.stdout


def test_command_refuses_a_broken_file_in_one_line(artifact: Path) -> None:
    artifact.write_bytes(artifact.read_bytes()[:-1])
    done = run("inspect", str(artifact))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(artifact) in done.stderr
