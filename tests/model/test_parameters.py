"""Names, shapes, dtypes, number and initial values of the parameters, and the way to public names and back."""

import dataclasses

import pytest
import torch
from oracle import plain_state
from oracle.plain_model import Plain

from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.model import GPT, upstream

BLOCK = {
    "attn.c_q.weight": (512, 512),
    "attn.c_k.weight": (256, 512),
    "attn.c_v.weight": (256, 512),
    "attn.proj.weight": (512, 512),
    "attn.q_gain": (8,),
    "mlp.fc.weight": (1536, 512),
    "mlp.proj.weight": (512, 1536),
    "attn_scale": (512,),
    "mlp_scale": (512,),
    "resid_mix": (2, 512),
}
SEED = {
    "tok_emb.weight": (1024, 512),
    "bigram.embed.weight": (10240, 128),
    "bigram.proj.weight": (512, 128),
    "bigram.scale": (),
    "smear.gate": (512,),
    "skip_weights": (5, 512),
    "backout_lambda": (),
} | {f"blocks.{block}.{name}": shape for block in range(10) for name, shape in BLOCK.items()}

TINY = Plain(vocab_size=30, dim=16, layers=3, heads=4, kv_heads=2, bigram_buckets=11, bigram_dim=4)
SHAPES = {
    "tiny": TINY,
    "one block": dataclasses.replace(TINY, layers=1),
    "untied, no bigram, no backout": dataclasses.replace(TINY, tied_embeddings=False, bigram_buckets=0, backout=False),
    "equal heads": dataclasses.replace(TINY, kv_heads=4, layers=4),
    "a square MLP": dataclasses.replace(TINY, mlp_mult=1.0),
}


def config_of(plain: Plain) -> ModelConfig:
    return ModelConfig(**dataclasses.asdict(plain))


def distinct_state(plain: Plain) -> dict[str, torch.Tensor]:
    """No two numbers in the whole state are equal, so nothing can change places unseen."""
    state, start = {}, 1
    for name, shape in plain_state.shapes(plain).items():
        count = int(torch.tensor(shape).prod()) if shape else 1
        state[name] = torch.arange(start, start + count, dtype=torch.float32).reshape(shape)
        start += count
    return state


@pytest.fixture(scope="module")
def seed_model():
    return GPT(ModelConfig())


@pytest.fixture(scope="module")
def initial(seed_model):
    return upstream.export(seed_model)


def test_the_seed_has_25517138_parameters(seed_model, initial):
    assert sum(parameter.numel() for parameter in seed_model.parameters()) == 25_517_138
    assert sum(tensor.numel() for tensor in initial.values()) == 25_517_138


def test_names_shapes_and_dtypes_of_the_seed(initial):
    assert {name: tuple(tensor.shape) for name, tensor in initial.items()} == SEED
    assert {tensor.dtype for tensor in initial.values()} == {torch.float32}


def test_the_tables_alone_may_be_bf16():
    state = upstream.export(GPT(config_of(TINY), compute_dtype=torch.bfloat16, embedding_dtype=torch.bfloat16))
    tables = {name for name, tensor in state.items() if tensor.dtype == torch.bfloat16}
    assert tables == {"tok_emb.weight", "bigram.embed.weight"}
    assert {state[name].dtype for name in state if name not in tables} == {torch.float32}


@pytest.mark.parametrize("plain", SHAPES.values(), ids=SHAPES.keys())
def test_names_and_shapes_of_other_models(plain):
    state = upstream.export(GPT(config_of(plain)))
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == plain_state.shapes(plain)


def test_initial_constants(initial):
    constants = {
        "bigram.embed.weight": 0.0,
        "bigram.scale": 0.05,
        "smear.gate": 0.0,
        "skip_weights": 1.0,
        "backout_lambda": 0.2,
        "attn.proj.weight": 0.0,
        "mlp.proj.weight": 0.0,
        "attn.q_gain": 1.5,
        "attn_scale": 1.0,
        "mlp_scale": 1.0,
    }
    for ending, value in constants.items():
        matching = [tensor for name, tensor in initial.items() if name.endswith(ending)]
        assert len(matching) == (10 if f"blocks.0.{ending}" in initial else 1)
        for tensor in matching:
            assert torch.equal(tensor, torch.full_like(tensor, value)), ending
    for block in range(10):
        mix = initial[f"blocks.{block}.resid_mix"]
        assert torch.equal(mix, torch.stack([torch.ones(512), torch.zeros(512)]))


def test_initial_embedding_is_normal(initial):
    table = initial["tok_emb.weight"].double() / 0.005
    count = table.numel()
    assert abs(float(table.mean())) < 5 / count**0.5
    assert float(table.std()) == pytest.approx(1, abs=5 / (2 * count) ** 0.5)
    assert float((table.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.004)
    assert float((table.abs() > 3).double().mean()) == pytest.approx(0.0027, abs=0.0004)


def test_initial_matrices_are_orthogonal(initial):
    matrices = {
        name: tensor
        for name, tensor in initial.items()
        if name.endswith(("c_q.weight", "c_k.weight", "c_v.weight", "fc.weight"))
    }
    assert len(matrices) == 40
    matrices["bigram.proj.weight"] = initial["bigram.proj.weight"] * 20**0.5
    for name, matrix in matrices.items():
        wide = matrix.double() if matrix.shape[0] <= matrix.shape[1] else matrix.double().T
        error = wide @ wide.T - torch.eye(wide.shape[0], dtype=torch.float64)
        assert float(error.abs().max()) < 1e-5, name
    first = [matrix[0].tolist()[:4] for matrix in matrices.values()]
    assert len({tuple(values) for values in first}) == len(first), "two matrices were drawn alike"


def test_other_initial_values_of_the_config():
    plain = dataclasses.replace(TINY, qk_gain_init=2.25, backout_lambda_init=0.75, embedding_init_std=3.0)
    state = upstream.export(GPT(config_of(plain)))
    assert state["blocks.1.attn.q_gain"].tolist() == [2.25] * 4
    assert float(state["backout_lambda"]) == 0.75
    assert 2.5 < float(state["tok_emb.weight"].std()) < 3.5
    head = upstream.export(GPT(config_of(dataclasses.replace(TINY, tied_embeddings=False))))["lm_head.weight"]
    assert not head.any()


def test_initial_values_follow_the_seed():
    first, again, other = (upstream.export(GPT(config_of(TINY), seed=seed)) for seed in (1, 1, 2))
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
    drawn = {name for name in first if not torch.equal(first[name], other[name])}
    assert {"tok_emb.weight", "bigram.proj.weight", "blocks.2.mlp.fc.weight", "blocks.0.attn.c_q.weight"} <= drawn


@pytest.mark.parametrize("plain", SHAPES.values(), ids=SHAPES.keys())
def test_export_of_load_is_exact(plain):
    state = distinct_state(plain)
    model = GPT(config_of(plain))
    upstream.load(model, dict(reversed(list(state.items()))))
    exported = upstream.export(model)
    assert set(exported) == set(state)
    for name, tensor in state.items():
        assert exported[name].dtype == tensor.dtype
        assert torch.equal(exported[name], tensor), name


def test_every_bit_survives():
    """Infinities, denormals, a negative zero, and bf16 tables."""
    model = GPT(config_of(TINY), embedding_dtype=torch.bfloat16)
    state = {name: tensor.clone() for name, tensor in upstream.export(model).items()}
    odd = torch.tensor([float("inf"), -0.0, 1e-45, 3.0000002])
    state["blocks.1.attn.q_gain"] = odd
    upstream.load(model, state)
    exported = upstream.export(model)
    assert torch.equal(exported["blocks.1.attn.q_gain"].view(torch.int32), odd.view(torch.int32))
    assert exported["tok_emb.weight"].dtype == torch.bfloat16
    assert torch.equal(exported["tok_emb.weight"], state["tok_emb.weight"])


def test_an_export_is_a_copy():
    model = GPT(config_of(TINY))
    for tensor in upstream.export(model).values():
        tensor.fill_(7)
    assert not any(bool((parameter == 7).any()) for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks.2.attn.c_k.weight": None}, ["blocks.2.attn.c_k.weight", "missing"]),
        ({"backout_lambda": None}, ["backout_lambda", "missing"]),
        ({"blocks.3.attn_scale": (16,)}, ["blocks.3.attn_scale"]),
        ({"lm_head.weight": (30, 16)}, ["lm_head.weight"]),
        ({"blocks.0.mlp.fc.weight": (16, 48)}, ["blocks.0.mlp.fc.weight", "16, 48", "48, 16"]),
        ({"bigram.scale": (1,)}, ["bigram.scale", "(1,)", "()"]),
        ({"skip_weights": (2, 16)}, ["skip_weights", "2, 16", "1, 16"]),
    ],
)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(change, words):
    model = GPT(config_of(TINY))
    before = upstream.export(model)
    state = distinct_state(TINY)
    for name, shape in change.items():
        if shape is None:
            del state[name]
        else:
            state[name] = torch.zeros(shape)
    with pytest.raises(InputError) as caught:
        upstream.load(model, state)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    for name, tensor in upstream.export(model).items():
        assert torch.equal(tensor, before[name]), f"{name} changed although the state was refused"
