import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from golf_fast.compress import quantize, read_artifact, write_artifact
from golf_fast.compress.artifact.inspection import Share, groups, overhead, shares
from golf_fast.config import CompressConfig

Compress = Callable[..., subprocess.CompletedProcess[str]]


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
    write_artifact(path, quantize(weights, config), {}, **config.coding())
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


def test_command_prints_a_line_for_each_tensor(artifact: Path) -> None:
    command = [sys.executable, "-m", "golf_fast.compress", "inspect", str(artifact)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in read_artifact(artifact).tensors:
        assert sum(line.startswith(f"{name} ") for line in done.stdout.splitlines()) == 1
    assert f"{artifact.stat().st_size:,} bytes" in done.stdout


def test_command_refuses_a_broken_file_in_one_line(artifact: Path, compress: Compress) -> None:
    artifact.write_bytes(artifact.read_bytes()[:-1])
    done = compress("inspect", artifact)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(artifact) in done.stderr


def test_the_picture_names_every_tensor(artifact: Path, compress: Compress, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    done = compress("inspect", artifact, "--plot", plot)
    assert done.returncode == 0, done.stderr
    texts = ["".join(element.itertext()) for element in ElementTree.parse(plot).iter() if element.tag.endswith("text")]
    for name in read_artifact(artifact).tensors:
        assert name in texts
    assert f"a.golf: {artifact.stat().st_size:,} bytes" in texts


def test_a_picture_of_another_kind_is_refused_before_anything_is_printed(
    artifact: Path, compress: Compress, tmp_path: Path
) -> None:
    done = compress("inspect", artifact, "--plot", tmp_path / "plot.pdf")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_many_tensors_are_grouped_by_role_and_form() -> None:
    def share(name: str, kind: str, elements: int) -> Share:
        return Share(name, kind, (elements,), "float16", ("rans",), elements, 4.0, elements / 4)

    few = [share(f"blocks.{layer}.mlp.fc.weight", "int5", 80) for layer in range(10)]
    alone = groups(few)
    assert [group.name for group in alone] == sorted(part.name for part in few)
    many = [*few, share("tok_emb.weight", "raw", 800), share("blocks.10.mlp.fc.weight", "raw", 40)]
    together = groups(many, most=11)
    assert [(group.name, group.form, group.size, group.entropy) for group in together] == [
        ("blocks.*.mlp.fc.weight", "int5: rans", 200, 400),
        ("tok_emb.weight", "float16: rans", 200, 400),
        ("blocks.*.mlp.fc.weight", "float16: rans", 10, 20),
    ]
    for found in (alone, groups(many), together):
        assert sum(group.size for group in found) in (200, 410)
