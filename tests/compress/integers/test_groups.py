"""The caller may say which tensors are treated alike; else published names do."""

from pathlib import Path

import pytest
import torch

from golf_fast.compress import Quantized, Raw, quantize, read_artifact, write_artifact
from golf_fast.compress.integers.groups import GROUPS, groups_of
from golf_fast.compress.size_estimate import expected_bytes
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError

CONFIG = CompressConfig(
    fp16_max_elements=0, fp16_keep=(), mlp_bits=5, attention_bits=6, bigram_bits=7, embedding_bits=8
)


def weights(*names: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(20, 30, generator=generator) for name in names}


def test_published_names() -> None:
    names = {
        "blocks.3.mlp.fc.weight": "mlp",
        "blocks.3.mlp_scale": "control",
        "blocks.3.attn.proj.weight": "attention",
        "blocks.3.attn.q_gain": "control",
        "blocks.3.attn.attn_gate_w": "gate",
        "skip_gates": "control",
        "smear_gate.weight": "control",
        "parallel_post_lambdas": "control",
        "bigram.proj.weight": "bigram",
        "bigram.scale": "control",
        "tok_emb.weight": "embedding",
        "lm_head.weight": "embedding",
        "anything.else": "embedding",
    }
    assert groups_of(names) == names


def test_given_groups_decide_the_form_whatever_the_names() -> None:
    state = weights(*(f"w{group}" for group in GROUPS))
    groups = {f"w{group}": group for group in GROUPS}
    stored = quantize(state, CONFIG, groups=groups)
    widths = [held.bits for held in stored.values() if isinstance(held, Quantized)]
    assert widths == [5, 6, 7, 8]
    for name in ("wgate", "wcontrol"):
        kept = stored[name]
        assert isinstance(kept, Raw)
        assert torch.equal(kept.tensor, state[name])
    named = dict(zip(groups, ("a.mlp.w", "a.attn.w", "bigram.w", "tok_emb", "attn_gate_w", "q_gain"), strict=True))
    by_name = {named[name]: tensor for name, tensor in state.items()}
    assert expected_bytes(state, CONFIG, groups) == expected_bytes(by_name, CONFIG)


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({"a": "mlp"}, "blocks.0.mlp.gate: its quantization group is missing; it must be one of mlp, attention"),
        ({}, "a: its quantization group is missing"),
        ({"a": "mlp", "blocks.0.mlp.gate": "gates"}, "blocks.0.mlp.gate: its quantization group is 'gates'; it must"),
        ({"a": "mlp", "blocks.0.mlp.gate": "mlp", "b": "mlp"}, "b: has a quantization group (mlp) and is no tensor"),
    ],
)
def test_a_name_without_a_group_and_a_group_without_a_tensor_are_refused(groups: dict[str, str], says: str) -> None:
    state = weights("a", "blocks.0.mlp.gate")
    for refuses in (quantize, expected_bytes):
        with pytest.raises(InputError) as caught:
            refuses(state, CONFIG, groups=groups)
        assert str(caught.value).startswith(says)


@pytest.mark.parametrize("quantizer", ["absmax", "sigma", "trellis"])
def test_gates_are_symmetric_integers_of_8_bits_whatever_their_size(quantizer: str, tmp_path: Path) -> None:
    config = CompressConfig(gate_int8=True, quantizer=quantizer)  # type: ignore[arg-type]
    name = "blocks.0.attn.attn_gate_w"
    gate = weights(name)[name][:8, :12]
    held = quantize({name: gate}, config)[name]
    assert isinstance(held, Quantized)
    assert held.bits == 8
    scales = (gate.abs().amax(1) / 127).half()
    assert torch.equal(held.scales, scales)
    assert torch.equal(held.values, (gate / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8))
    assert isinstance(quantize({name: gate}, CompressConfig())[name], Raw)
    assert expected_bytes({name: gate}, config) < expected_bytes({name: gate}, CompressConfig())
    write_artifact(tmp_path / "a", {name: held}, {}, **config.coding())
    back = read_artifact(tmp_path / "a").tensors[name]
    assert isinstance(back, Quantized)
    assert torch.equal(back.values, held.values)
