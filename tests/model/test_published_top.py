"""Names, shapes and initial values of the published stack at the top, and the way from its banks and back."""

from __future__ import annotations

import pytest
import torch
from helpers import top_models

from golf_fast.errors import InputError
from golf_fast.model import GPT, upstream

OF_A_BLOCK = {
    "attn.c_q.weight": (512, 512),
    "attn.c_k.weight": (256, 512),
    "attn.c_v.weight": (256, 512),
    "attn.proj.weight": (512, 512),
    "attn.q_gain": (8,),
    "attn.attn_gate_w": (8, 12),
    "mlp.fc.weight": (2048, 512),
    "mlp.proj.weight": (512, 2048),
    "attn_scale": (512,),
    "mlp_scale": (512,),
    "resid_mix": (2, 512),
}
OTHERS = {
    "tok_emb.weight": (8192, 512),
    "skip_weights": (8, 512),
    "skip_gates": (8, 512),
    "parallel_post_lambdas": (11, 2, 2),
    "parallel_resid_lambdas": (11, 2),
    "smear_gate.weight": (1, 12),
    "smear_lambda": (1,),
}
IN_ARTIFACT = OTHERS | {f"blocks.{block}.{name}": shape for block in range(11) for name, shape in OF_A_BLOCK.items()}
BANKS = {
    "qo_bank": (22, 512, 512),
    "kv_bank": (22, 256, 512),
    "mlp_up_bank": (11, 2048, 512),
    "mlp_down_bank": (11, 512, 2048),
}
IN_MEMORY = BANKS | {name: shape for name, shape in IN_ARTIFACT.items() if ".c_" not in name and "j.w" not in name}
IN_MEMORY = {name: shape for name, shape in IN_MEMORY.items() if not name.endswith("fc.weight")}


@pytest.fixture(scope="module")
def model() -> GPT:
    return GPT(top_models.TOP)


def test_it_has_35945671_parameters_under_the_published_names(model: GPT) -> None:
    state = upstream.export(model)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == IN_ARTIFACT
    assert sum(tensor.numel() for tensor in state.values()) == 35_945_671
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_initial_values_are_the_published_ones(model: GPT) -> None:
    state = upstream.export(model)
    constants = {
        "skip_weights": 1, "skip_gates": 0, "parallel_post_lambdas": 1, "parallel_resid_lambdas": 1.1,
        "smear_gate.weight": 0, "smear_lambda": 0,
    }  # fmt: skip
    of_blocks = {
        "attn.q_gain": 5, "attn.attn_gate_w": 0, "attn_scale": 1, "mlp_scale": 1, "attn.proj.weight": 0,
        "mlp.proj.weight": 0,
    }  # fmt: skip
    for block in range(11):
        constants |= {f"blocks.{block}.{name}": value for name, value in of_blocks.items()}
    for name, value in constants.items():
        assert bool((state[name] == torch.tensor(float(value))).all()), name
    fc, k = state["blocks.3.mlp.fc.weight"], state["blocks.10.attn.c_k.weight"]
    torch.testing.assert_close(fc.T @ fc, torch.eye(512), rtol=0, atol=1e-4)
    torch.testing.assert_close(k @ k.T, torch.eye(256), rtol=0, atol=1e-4)
    assert float(state["tok_emb.weight"].std()) == pytest.approx(0.005, rel=0.01)
    mix = state["blocks.4.resid_mix"]
    assert bool((mix[0] == 1).all())
    assert not bool(mix[1].any())


def test_the_banks_of_the_script_are_the_matrices_of_its_artifact(model: GPT) -> None:
    assert sum(torch.Size(shape).numel() for shape in IN_MEMORY.values()) == 35_945_671
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) for name, shape in IN_MEMORY.items()}
    upstream.load(model, state)
    public = upstream.export(model)
    assert public.keys() == IN_ARTIFACT.keys()
    for block in (0, 10):
        name = f"blocks.{block}."
        assert torch.equal(public[name + "attn.c_q.weight"], state["qo_bank"][block])
        assert torch.equal(public[name + "attn.proj.weight"], state["qo_bank"][11 + block])
        assert torch.equal(public[name + "attn.c_k.weight"], state["kv_bank"][block])
        assert torch.equal(public[name + "attn.c_v.weight"], state["kv_bank"][11 + block])
        assert torch.equal(public[name + "mlp.fc.weight"], state["mlp_up_bank"][block])
        assert torch.equal(public[name + "mlp.proj.weight"], state["mlp_down_bank"][block])
    for name in state.keys() - BANKS.keys():
        assert torch.equal(public[name], state[name])


@pytest.mark.parametrize("shape", [(12, 512, 2048), ()], ids=str)
def test_a_bank_of_another_size_is_named(model: GPT, shape: tuple[int, ...]) -> None:
    state = {name: torch.zeros(()).expand(size) for name, size in IN_MEMORY.items()}
    with pytest.raises(InputError, match=r"mlp_down_bank is \(.*in the state dict: the model has 11 matrices"):
        upstream.load(model, state | {"mlp_down_bank": torch.zeros(()).expand(shape)})
    with pytest.raises(InputError, match=r"blocks\.0\.attn\.c_k\.weight is \(512, 512\).*\(256, 512\)"):
        upstream.load(model, state | {"kv_bank": torch.zeros(()).expand(22, 512, 512)})
