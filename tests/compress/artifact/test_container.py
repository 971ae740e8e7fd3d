"""The artifact: what is written is what is read, in bytes that depend on nothing but the content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.installed_codecs import CODECS
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_fast.compress import (
    Quantized,
    Raw,
    Stored,
    dequantize,
    prune,
    quantize,
    read_artifact,
    trellis_quantize,
    write_artifact,
)
from golf_fast.compress.artifact import codecs
from golf_fast.config import CodecName, CompressConfig, ModelConfig, RunConfig
from golf_fast.errors import InputError
from golf_fast.from_plain import from_plain

CONFIG = CompressConfig()
MODEL = {"dim": 64, "rope_base": 10000.0, "tied_embeddings": True, "name": "größer"}


def state_dict(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    return {
        "tok_emb.weight": normal(70, 128),
        "blocks.0.attn.c_q.weight": normal(101, 97),
        "blocks.0.mlp.fc.weight": normal(260, 260),
        "blocks.0.mlp.proj.weight": normal(97, 101),
        "blocks.0.attn_scale": normal(9000),
        "blocks.0.resid_mix": normal(2, 64),
        "lm_head.weight": normal(90, 128),
        "odd": normal(3, 50, 60),
        "bigram.scale": torch.tensor(0.05),
        "steps": torch.tensor([1, -(2**40)]),
        "mask": torch.tensor([[True, False]]),
        "empty": torch.zeros(0, 7),
    }


def assert_equal(ours: dict[str, Stored], theirs: dict[str, Stored]) -> None:
    assert set(ours) == set(theirs)
    for name, stored in ours.items():
        other = theirs[name]
        assert type(stored) is type(other)
        assert stored.shape == other.shape
        if isinstance(stored, Raw):
            assert isinstance(other, Raw)
            assert stored.tensor.dtype == other.tensor.dtype
            assert torch.equal(stored.tensor, other.tensor)
        else:
            assert isinstance(other, Quantized)
            assert stored.bits == other.bits
            assert stored.scales.dtype == other.scales.dtype
            assert torch.equal(stored.scales, other.scales)
            assert torch.equal(stored.values, other.values)


@pytest.mark.parametrize("codec", CODECS)
def test_round_trip(codec: CodecName, tmp_path: Path) -> None:
    tensors = quantize(prune(state_dict(), CONFIG), CONFIG)
    path = tmp_path / "deep" / "artifact.golf"
    size = write_artifact(path, tensors, MODEL, codec=codec)
    artifact = read_artifact(path)
    assert size == artifact.size == path.stat().st_size
    assert artifact.model_config == MODEL
    assert_equal(tensors, artifact.tensors)
    for name, tensor in dequantize(artifact.tensors).items():
        assert torch.equal(tensor, dequantize(tensors)[name])


def test_the_config_of_a_run_travels(tmp_path: Path) -> None:
    config = RunConfig().as_dict()["model"]
    write_artifact(tmp_path / "a", {}, config)
    held = read_artifact(tmp_path / "a").model_config
    assert from_plain(ModelConfig, held, tmp_path / "a", "model") == ModelConfig()


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_do_not_depend_on_order_strides_or_a_second_try(codec: CodecName, tmp_path: Path) -> None:
    tensors = quantize(state_dict(), CONFIG)
    shuffled = dict(reversed(tensors.items()))
    raw = tensors["tok_emb.weight"]
    assert isinstance(raw, Raw)
    shuffled["tok_emb.weight"] = Raw(raw.tensor.t().contiguous().t())
    write_artifact(tmp_path / "a", tensors, MODEL, codec=codec)
    write_artifact(tmp_path / "b", shuffled, dict(reversed(MODEL.items())), codec=codec)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_written_file_reads_back_to_the_same_bytes(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a", quantize(state_dict(), CONFIG), MODEL)
    write_artifact(tmp_path / "b", read_artifact(tmp_path / "a").tensors, MODEL)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(max_examples=30)
@given(
    rows=st.integers(1, 9),
    cols=st.integers(1, 300),
    bits=st.integers(2, 8),
    seed=st.integers(0, 2**32 - 1),
    equal=st.booleans(),
    codec=st.sampled_from(CODECS),
)
def test_any_integers(
    rows: int, cols: int, bits: int, seed: int, equal: bool, codec: CodecName, tmp_path_factory
) -> None:
    random = np.random.default_rng(seed)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    values = np.full((rows, cols), random.integers(low, high)) if equal else random.integers(low, high, (rows, cols))
    tensor = torch.from_numpy(values.astype(np.int8))
    stored = Quantized(tensor, torch.linspace(0.5, 1, rows).half(), bits)
    path = tmp_path_factory.mktemp("any") / "a"
    write_artifact(path, {"w": stored}, {}, codec=codec)
    assert_equal({"w": stored}, read_artifact(path).tensors)


def test_near_the_entropy(tmp_path: Path) -> None:
    weights = torch.randn(512, 512, generator=torch.Generator().manual_seed(1))
    tensors = quantize({"blocks.0.attn.c_q.weight": weights}, CONFIG)
    packed = tensors["blocks.0.attn.c_q.weight"]
    assert isinstance(packed, Quantized)
    _, counts = packed.values.unique(return_counts=True)
    share = counts.double() / counts.sum()
    entropy = -(share * share.log2()).sum().item()
    bits = 8 * write_artifact(tmp_path / "a", tensors, {}) / weights.numel()
    assert entropy < bits < entropy * 1.02 + 16 / 512


def test_the_entropy_coder_is_smallest(tmp_path: Path) -> None:
    """With scales of rows and columns as trained matrices have them, and fp16 tensors beside."""
    random = torch.Generator().manual_seed(3)
    weights = torch.randn(384, 512, generator=random)
    weights *= (0.3 * torch.randn(384, 1, generator=random)).exp2() * (0.3 * torch.randn(512, generator=random)).exp2()
    state = {"blocks.0.attn.c_q.weight": weights, "blocks.0.mlp.fc.weight": weights.T, "tok_emb.weight": weights / 9}
    tensors = quantize(state, CONFIG)
    sizes = {codec: write_artifact(tmp_path / codec, tensors, {}, codec=codec) for codec in CODECS}
    assert sizes["rans"] < 0.995 * min(size for codec, size in sizes.items() if codec != "rans")


def test_an_artifact_says_which_codec_each_part_has(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a", quantize(state_dict(), CONFIG), MODEL)
    header = read_artifact(tmp_path / "a").header
    for blob in header.blobs:
        if blob.part == "values":
            assert len(blob.tensors) == 1
            assert blob.codec in ("rans", "raw")
    assert {blob.codec for blob in header.blobs} >= {"rans", "zstd"}


def test_an_earlier_file_survives_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_artifact(path, {}, {})
    before = path.read_bytes()
    for tensors, model in [({}, {"x": float("nan")}), ({}, {"x": Path("x")}), ({"n" * 300: Raw(torch.ones(1))}, {})]:
        with pytest.raises(InputError, match=str(path)):
            write_artifact(path, tensors, model)
    with pytest.raises(InputError, match="bfloat16"):
        write_artifact(path, {"w": Raw(torch.ones(1, dtype=torch.bfloat16))}, {})
    with pytest.raises(InputError, match="its codec is 'other'; it must be one of raw, zstd"):
        write_artifact(path, {}, {}, codec="other")
    with pytest.raises(InputError, match="its level of zstd is 23; it must be from 1 to 22"):
        write_artifact(path, {}, {}, level=23)
    with pytest.raises(InputError, match="a note is not plain JSON"):
        write_artifact(path, {}, {}, notes={"x": Path("x")})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prune_quantile": 0.25}, {"prune_quantile": 0.25, "quantizer": "absmax"}),
        ({"quantizer": "sigma", "clip_sigma": 7.5}, {"prune_quantile": 0.03, "quantizer": "sigma", "clip_sigma": 7.5}),
        (
            {"quantizer": "gptq", "clip_sigma": 9.0, "calibration_tokens": 1},
            {"prune_quantile": 0.03, "quantizer": "gptq", "clip_sigma": 9.0},
        ),
    ],
)
def test_an_artifact_says_how_its_integers_were_made(
    settings: dict[str, Any], said: dict[str, Any], tmp_path: Path
) -> None:
    config = CompressConfig(codec="zstd", zstd_level=4, **settings)
    write_artifact(tmp_path / "a", {}, {}, **config.coding())
    assert read_artifact(tmp_path / "a").header.compress == said | {"codec": "zstd", "level": 4}


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_artifact(path)


def test_a_golden_artifact_is_read() -> None:
    """Written once with the entropy coder; whatever is written later, this file is read."""
    artifact = read_artifact(Path(__file__).parent / "golden" / "first.golf")
    assert artifact.model_config == MODEL
    assert_equal(artifact.tensors, quantize(golden_state(), CompressConfig(fp16_max_elements=64)))


def golden_state() -> dict[str, torch.Tensor]:
    steps = torch.arange(600, dtype=torch.float32)
    return {
        "tok_emb.weight": ((steps * 7) % 31 - 15).reshape(20, 30) / 8,
        "blocks.0.attn.c_q.weight": ((steps * 11) % 61 - 30).reshape(30, 20) / 16,
        "blocks.0.mlp.fc.weight": ((steps * 13) % 29 - 14).reshape(20, 30) / 16,
        "blocks.0.attn_scale": torch.ones(30),
        "lm_head.weight": ((steps * 17) % 251 - 125).reshape(30, 20) / 4,
        "steps": torch.tensor([1, 2, 3]),
    }


@pytest.mark.parametrize("scales", [torch.tensor([1, float("inf")]).half(), torch.tensor([1, 3e38])])
def test_what_would_not_be_read_is_not_written(scales: torch.Tensor, tmp_path: Path) -> None:
    tensors = {"m": Quantized(torch.full((2, 3), 100, dtype=torch.int8), scales, 8)}
    with pytest.raises(InputError, match=r"a\.golf: not written: m: .* not (all )?finite"):
        write_artifact(tmp_path / "a.golf", tensors, {})
    assert not (tmp_path / "a.golf").exists()


def source(kind: str, rows: int, cols: int, seed: int) -> np.ndarray:
    """int8 values of a kind that some coder is good at."""
    random = np.random.default_rng(seed)
    normal = np.clip(np.rint(random.normal(size=(rows, cols)) * 6), -31, 31)
    place = np.arange(rows * cols).reshape(rows, cols)
    text = np.frombuffer(b"the quick brown fox jumps over the lazy dog, and then the dog over the fox. ", np.uint8)
    made = {
        "normal": normal,
        "row scales": np.clip(
            np.rint(random.normal(size=(rows, cols)) * 2.0 ** (np.arange(rows)[:, None] % 5)), -99, 99
        ),
        "uniform": random.integers(-128, 128, (rows, cols)),
        "sparse": normal * (random.random((rows, cols)) < 0.03),
        "constant": np.full((rows, cols), -7),
        "ramp": place % 200 - 100,
        "period": normal.reshape(-1)[place % 53],
        "equal rows": normal[random.integers(0, min(rows, 4), rows)],
        "distant rows": normal[np.arange(rows) % max(rows // 2, 1)],
        "alike rows": np.clip(normal[:1] * 4 + np.rint(random.normal(size=(rows, cols))), -128, 127),
        "shifted rows": normal.reshape(-1)[(place + np.arange(rows)[:, None]) % max(cols, 2) % normal.size],
        "steps": np.clip(np.cumsum(random.integers(-1, 2, (rows, cols)), axis=1), -128, 127),
        "text": text[place % text.size],
        "words": text[(random.integers(0, 12, (rows * cols + 4) // 5)[:, None] * 5 + np.arange(5)) % text.size]
        .reshape(-1)[: rows * cols]
        .reshape(rows, cols),
        "trellis": trellis_quantize(
            random.normal(size=(rows, cols)).astype(np.float32), np.full(rows, 0.2, np.float32)
        ),
    }
    return made[kind].astype(np.int8)


SOURCES = ("normal", "row scales", "uniform", "sparse", "constant", "ramp", "period", "equal rows", "distant rows")
SOURCES += ("alike rows", "shifted rows", "steps", "text", "words", "trellis")


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (40, 40), (300, 150), (37, 1500)], ids=str)
def test_no_other_codec_makes_a_smaller_blob(kind: str, shape: tuple[int, int]) -> None:
    values = source(kind, *shape, seed=len(kind))
    form = codecs.Form(*shape, 8)
    name, blob = codecs.smallest_of_all(("raw", "rans"), values.tobytes(), form, 22)
    assert codecs.CODECS[name].decode(blob, form) == values.tobytes()
    for other in CODECS:
        size = len(codecs.CODECS[other].encode(values.tobytes(), form, 22))
        # Brotli, which a reader may lack, has to save 1 % and 64 bytes.
        assert len(blob) <= ((size + 64) / 0.99 + 1 if other == "brotli" else size), other


def test_slow_codecs_are_not_asked_for_what_does_not_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = codecs.CODECS["zstd"]
    counted = codecs.Codec(lambda *given: asked.append(1) or plain.encode(*given), plain.decode)  # type: ignore[func-returns-value]
    monkeypatch.setitem(codecs.CODECS, "zstd", counted)
    for kind in ("normal", "row scales", "alike rows", "trellis", "equal rows"):
        values = source(kind, 400, 200, 0)
        codecs.smallest_of_all(("raw", "rans"), values.tobytes(), codecs.Form(400, 200, 8), 22)
        assert bool(asked) == (kind == "equal rows"), kind


def test_rows_that_repeat_are_not_larger_than_under_another_codec(tmp_path: Path) -> None:
    values = torch.from_numpy(source("equal rows", 500, 100, 1))
    tensors: dict[str, Stored] = {"tok_emb.weight": Quantized(values, torch.full((500,), 0.5).half(), 8)}
    sizes = {codec: write_artifact(tmp_path / codec, tensors, MODEL, codec=codec) for codec in CODECS}
    assert sizes["rans"] == min(sizes.values())
    assert_equal(tensors, read_artifact(tmp_path / "rans").tensors)
