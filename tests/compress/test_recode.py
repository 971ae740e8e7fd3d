"""Another codec is another file of the same tensors, bit for bit, and of the same score."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from helpers.installed_codecs import CODECS
from helpers.small_scoring import score, small_config, small_gpt, some_tokens

from golf_fast.compress import Quantized, Raw, Stored, quantize, read_artifact, write_artifact
from golf_fast.compress.recode import recode
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError
from golf_fast.model import upstream
from golf_fast.score.loading import read_model


def same(one: Stored, other: Stored) -> bool:
    """Whether two tensors have one form and the same bits."""
    if isinstance(one, Raw) or isinstance(other, Raw):
        assert isinstance(one, Raw)
        assert isinstance(other, Raw)
        return one.tensor.dtype == other.tensor.dtype and torch.equal(one.tensor, other.tensor)
    assert isinstance(one, Quantized)
    alike = type(one) is type(other) and one.bits == other.bits and one.scales.dtype == other.scales.dtype
    return alike and torch.equal(one.values, other.values) and torch.equal(one.scales, other.scales)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    model = small_gpt()
    config = CompressConfig(
        fp16_max_elements=40,
        fp16_keep=(),
        prune_quantile=0,
        quantizer="sigma",
        clip_sigma=7.5,
        codec="zstd",
        zstd_level=3,
    )
    fields = {name: getattr(model.config, name) for name in model.config.__dataclass_fields__}
    write_artifact(tmp_path / "first.golf", quantize(upstream.export(model), config), fields, **config.coding())
    return tmp_path / "first.golf"


def test_through_every_codec_and_back(artifact: Path, tmp_path: Path) -> None:
    first = read_artifact(artifact)
    assert {"raw", "int5", "int6", "int8"} == {spec.kind for spec in first.header.tensors}
    tokens, config = some_tokens(150), small_config()
    wanted = score(read_model(artifact, torch.float32), tokens, config)
    source = artifact
    for codec in [*CODECS, CODECS[0], "zstd"]:
        output = tmp_path / f"{source.stem}-{codec}.golf"
        before, after = recode(source, codec, output)
        assert (before, after) == (source.stat().st_size, output.stat().st_size)
        held = read_artifact(output)
        assert held.model_config == first.model_config
        assert held.header.compress == first.header.compress | {"codec": codec}
        assert held.tensors.keys() == first.tensors.keys()
        assert all(same(held.tensors[name], first.tensors[name]) for name in held.tensors)
        found = score(read_model(output, torch.float32), tokens, config)
        assert (found.nats, found.bpb, found.tokens) == (wanted.nats, wanted.bpb, wanted.tokens)
        source = output
    assert source.read_bytes() == artifact.read_bytes()


def test_the_command_prints_both_sizes_and_replaces_nothing(
    artifact: Path, compress: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    output = tmp_path / "second.golf"
    done = compress("recode", artifact, "--codec", "rans", "--output", output)
    assert done.returncode == 0, done.stderr
    assert f"{artifact}: {artifact.stat().st_size:,} bytes" in done.stdout
    assert f"{output}: {output.stat().st_size:,} bytes, rans" in done.stdout
    written = output.read_bytes()
    done = compress("recode", artifact, "--codec", "zstd", "--output", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {output}: is there already")
    assert len(done.stderr.splitlines()) == 1
    assert output.read_bytes() == written


def test_a_broken_artifact_and_a_dangling_link_are_refused(artifact: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="link: is there already"):
        recode(artifact, "zstd", link)
    artifact.write_bytes(artifact.read_bytes()[:-1])
    with pytest.raises(InputError, match="first"):
        recode(artifact, "zstd", tmp_path / "second.golf")
    assert not (tmp_path / "second.golf").exists()


def renoted(source: Path, output: Path, patch: pytest.MonkeyPatch, **noted: object) -> None:
    """Recode an artifact that notes other settings."""
    held = read_artifact(source)
    held.header.compress.update(noted)
    patch.setattr("golf_fast.compress.recode.read_artifact", lambda path: held)
    recode(source, "zstd", output)


def test_settings_are_noted_again_whatever_they_are(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "second.golf"
    renoted(artifact, output, monkeypatch, prune_quantile=2.5, quantizer="one to come")
    noted = read_artifact(output).header.compress
    assert (noted["prune_quantile"], noted["quantizer"], noted["codec"]) == (2.5, "one to come", "zstd")


@pytest.mark.parametrize("level", [99, 0, 3.5, True, "x", None])
def test_a_level_that_zstd_does_not_have_is_one_line(
    level: object, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"the level of zstd that it notes is .*from 1 to 22"):
        renoted(artifact, tmp_path / "second.golf", monkeypatch, level=level)
    assert not (tmp_path / "second.golf").exists()
