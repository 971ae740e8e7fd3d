"""Models of the record scripts become artifacts that compute the same numbers."""

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from helpers.published_files import Compressor, State, int8, mixed, pack

from golf_fast.compress import Quantized, Raw, dequantize, read_artifact
from golf_fast.compress.__main__ import main
from golf_fast.compress.published.deduce import Unseen, deduce, with_smear
from golf_fast.compress.published.layouts import read_published
from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.model import GPT, embedding, upstream
from golf_fast.score.loading import read_model

CONFIG = ModelConfig(
    vocab_size=40,
    dim=32,
    layers=3,
    heads=4,
    kv_heads=2,
    mlp_mult=2.5,
    bigram_buckets=31,
    bigram_dim=8,
    rope_bf16_frequencies=True,
)
TOKENS = torch.arange(120).reshape(2, 60) * 7 % 40
LAYOUTS: dict[str, Callable[[State], tuple[dict[str, Any], State]]] = {"mixed": mixed, "int8": int8}


def state_of(config: ModelConfig, seed: int = 0) -> State:
    """Weights under public names, none of them zero."""
    state = upstream.export(GPT(config))
    generator = torch.Generator().manual_seed(seed)
    return {name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}


def logits(config: ModelConfig, state: State, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    model = GPT(config, compute_dtype=dtype)
    upstream.load(model, state)
    with torch.no_grad():
        return model.logits(TOKENS)


class Importer:
    """The command in this process, on files in a folder of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.source, self.output = folder / "final_model.int8.ptz", folder / "imported.golf"
        self._patch, self._capture = patch, capture

    def __call__(self, file: bytes, *options: str) -> str:
        self.source.write_bytes(file)
        arguments = ["import", str(self.source), "--output", str(self.output), *options]
        self._patch.setattr(sys, "argv", ["prog", *arguments])
        main()
        return self._capture.readouterr().out


@pytest.fixture
def importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Importer:
    return Importer(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("compressor", ["zstd", "zlib"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_imported_model_computes_what_the_script_reads_back(
    layout: str, compressor: Compressor, importer: Importer
) -> None:
    content, restored = LAYOUTS[layout](state_of(CONFIG))
    file = pack(content, compressor)
    said = importer(file)
    model = read_model(importer.output, torch.float32)
    assert model.config == CONFIG
    with torch.no_grad():
        assert torch.equal(model.logits(TOKENS), logits(CONFIG, restored))
    assert f"layout {layout}, {compressor}, {len(file):,} bytes" in said
    assert f"{importer.output}: {importer.output.stat().st_size:,} bytes, rans" in said


def test_mixed_integers_and_scales_pass_over_as_they_are(importer: Importer) -> None:
    content, _ = mixed(state_of(dataclasses.replace(CONFIG, tied_embeddings=False)))
    said = importer(pack(content))
    held = read_artifact(importer.output).tensors
    assert set(held) == set(content["m"])
    for name, how in content["m"].items():
        stored = held[name]
        if isinstance(how, str):
            assert isinstance(stored, Raw)
            assert stored.tensor.dtype == content["w"][name].dtype
            assert torch.equal(stored.tensor, content["w"][name])
        else:
            assert isinstance(stored, Quantized)
            assert f"int{stored.bits}" == how["type"]
            assert torch.equal(stored.values, content["w"][f"{name}.q"])
            assert torch.equal(stored.scales, content["w"][f"{name}.scale"])
    assert {"int5", "int6", "int8", "raw float16", "raw float32"} == {
        line.split("  ")[0] for line in said.splitlines() if line.startswith(("int", "raw"))
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables_that_the_script_keeps_in_bf16_are_the_same_in_bf16(layout: str, importer: Importer) -> None:
    state = state_of(CONFIG)
    for name in ("tok_emb.weight", "bigram.embed.weight"):
        state[name] = state[name].bfloat16()
    content, restored = LAYOUTS[layout](state)
    said = importer(pack(content))
    model = read_model(importer.output, torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(model.logits(TOKENS), logits(CONFIG, restored, torch.bfloat16))
    assert ("tok_emb.weight: bfloat16 in the script" in said) == (layout == "int8")


def test_the_published_baseline_has_no_smear(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(CONFIG, bigram_buckets=0, bigram_dim=128, backout=False)
    state = state_of(config)
    gate = state.pop("smear.gate")
    content, restored = int8(state)
    said = importer(pack(content, "zlib"))
    assert "smear.gate: not in the file" in said
    for dtype in (torch.float32, torch.bfloat16):
        model = read_model(importer.output, dtype)
        assert model.config == config
        with torch.no_grad(), monkeypatch.context() as patched:
            found = model.logits(TOKENS)
            with_a_gate = logits(config, {**restored, "smear.gate": gate}, dtype)
            patched.setattr(embedding, "smear", lambda x, gate, starts: x)
            assert torch.equal(found, logits(config, {**restored, "smear.gate": gate}, dtype))
        assert not torch.equal(found, with_a_gate)


def test_options_say_what_the_tensors_do_not(importer: Importer) -> None:
    content, restored = mixed(state_of(CONFIG))
    options = ["--rope-base", "500", "--logit-softcap", "7", "--backout-layer", "0", "--no-rope-bf16-frequencies"]
    importer(pack(content), *options)
    model = read_model(importer.output, torch.float32)
    config = dataclasses.replace(
        CONFIG, rope_base=500.0, logit_softcap=7.0, backout_layer=0, rope_bf16_frequencies=False
    )
    assert model.config == config
    with torch.no_grad():
        assert torch.equal(model.logits(TOKENS), logits(config, restored))
    assert not torch.equal(logits(config, restored), logits(CONFIG, restored))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers": 1},
        {"layers": 12, "kv_heads": 4},
        {"heads": 1, "kv_heads": 1},
        {"bigram_buckets": 0, "bigram_dim": 128},
        {"backout": False, "tied_embeddings": False},
        {"dim": 12, "heads": 3, "kv_heads": 3, "mlp_mult": 4.0},
        {"vocab_size": 1024, "dim": 64, "mlp_mult": 3.0},
    ],
)
def test_the_configuration_is_deduced_from_shapes(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    tensors = {name: Raw(tensor) for name, tensor in upstream.export(GPT(config)).items()}
    assert deduce(tensors, Unseen()) == config
    assert with_smear(tensors) == tensors


@pytest.mark.parametrize("dim", [6, 14, 22, 46, 98])
def test_any_hidden_width_is_found_again(dim: int) -> None:
    for hidden in range(1, 4 * dim):
        config = dataclasses.replace(CONFIG, dim=dim, heads=1, kv_heads=1, mlp_mult=(hidden + 0.5) / dim)
        shapes = {
            "tok_emb.weight": (40, dim),
            "blocks.0.attn.q_gain": (1,),
            "blocks.0.attn.c_q.weight": (dim, dim),
            "blocks.0.attn.c_k.weight": (dim, dim),
            "blocks.0.mlp.fc.weight": (hidden, dim),
        }
        assert config.hidden == hidden
        assert deduce({name: Raw(torch.zeros(shape)) for name, shape in shapes.items()}, Unseen()).hidden == hidden


def read(tmp_path: Path, weights: State, meta: dict[str, Any]) -> Any:
    path = tmp_path / "model.ptz"
    path.write_bytes(pack({"w": weights, "m": meta}))
    return read_published(path)


def test_what_a_packed_form_cannot_hold_is_held_exactly_all_the_same(tmp_path: Path) -> None:
    matrix = torch.tensor([[-32, 31, 0], [5, -7, 1]], dtype=torch.int8)
    cube = torch.arange(-12, 12, dtype=torch.int8).reshape(2, 3, 4)
    weights = {
        "fine.q": matrix,
        "fine.scale": torch.tensor([0.1234567, 3e-8]),
        "one.q": matrix,
        "one.scale": torch.tensor(0.37, dtype=torch.float16),
        "cube.q": cube,
        "cube.scale": torch.tensor([0.1, 0.7], dtype=torch.float16),
        "half": torch.tensor([1e38, -3e-30]).bfloat16(),
        "bigram.scale": torch.tensor(0.25),
    }
    meta = {"fine": {"type": "int6"}, "one": {"type": "int6", "method": "gptq"}, "cube": {"type": "int8"}}
    read_back = read(tmp_path, weights, {**meta, "half": "passthrough", "bigram.scale": "passthrough"}).tensors
    wanted = {
        "fine": matrix.float() * weights["fine.scale"][:, None],
        "one": matrix.float() * weights["one.scale"].float(),
        "cube": cube.float() * weights["cube.scale"].float()[:, None, None],
        "half": weights["half"].float(),
        "bigram.scale": weights["bigram.scale"],
    }
    found = dequantize(read_back)
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name
    assert torch.equal(read_back["fine"].values, matrix)
    assert torch.equal(read_back["one"].values, matrix)


def test_an_unknown_feature_is_one_line(compress: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    content, _ = mixed({**state_of(CONFIG), "blocks.1.attn.gate": torch.ones(4)})
    source, output = tmp_path / "model.ptz", tmp_path / "a.golf"
    source.write_bytes(pack(content))
    done = compress("import", source, "--output", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {source}: blocks.1.attn.gate ")
    assert len(done.stderr.splitlines()) == 1
    assert not output.exists()


@pytest.mark.parametrize(
    "name", ["smear.gate", "blocks.1.attn_scale", "blocks.1.mlp.proj.weight", "blocks.0.attn.q_gain"]
)
def test_a_tensor_of_another_shape_is_named(name: str, importer: Importer) -> None:
    state = state_of(CONFIG)
    state[name] = torch.cat([state[name], state[name][:1]])
    with pytest.raises(InputError, match=re.escape(f"{importer.source}: {name}")):
        importer(pack(mixed(state)[0]))
    assert not importer.output.exists()


@pytest.mark.parametrize("name", ["tok_emb.weight", "skip_weights", "blocks.2.resid_mix", "blocks.0.attn.c_k.weight"])
def test_a_missing_tensor_is_named(name: str, importer: Importer) -> None:
    state = state_of(CONFIG)
    del state[name]
    with pytest.raises(InputError, match=re.escape(f"{importer.source}: {name}")):
        importer(pack(int8(state)[0]))


def test_an_existing_file_is_not_replaced(importer: Importer) -> None:
    importer.output.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"imported\.golf: is there already"):
        importer(pack(mixed(state_of(CONFIG))[0]))
    assert importer.output.read_bytes() == b"mine"
