"""Logits, losses and every gradient of the model against the plain version, from one state dict."""

import dataclasses
import functools

import pytest
import torch
from helpers import top_models
from oracle import package, plain_model, plain_state
from oracle.plain_model import Plain

from golf_fast import ops

SMALL = Plain(vocab_size=83, dim=32, layers=4, heads=4, kv_heads=2, bigram_buckets=61, bigram_dim=12)

# Every mechanism of the published stack at the top, at a small size.
TOP = dataclasses.replace(
    SMALL, layers=5, mlp_mult=2.0, bigram_buckets=0, backout=False, qk_gain_init=5.0, negative_slope=0.5,
    smear="before_norm", smear_bos=82, rope_dims=4, norm_scale=True, xsa_layers=5, attention_gate=True,
    attention_gate_scale=0.5, skip_gates=True, loops=2, loop_start=1, loop_end=2, lanes_from=3,
)  # fmt: skip

# What each shape adds: depths without a skip (1), with an odd middle (3, 5) and with several; every grouping of heads;
# every part left out; and every number that the seed keeps at its default.
SHAPES = {
    "small": SMALL,
    "one block": dataclasses.replace(SMALL, layers=1),
    "two blocks": dataclasses.replace(SMALL, layers=2),
    "three blocks": dataclasses.replace(SMALL, layers=3),
    "five blocks": dataclasses.replace(SMALL, layers=5),
    "a kv head for each head": dataclasses.replace(SMALL, kv_heads=4),
    "one kv head": dataclasses.replace(SMALL, kv_heads=1),
    "one head": dataclasses.replace(SMALL, heads=1, kv_heads=1),
    "heads of two": dataclasses.replace(SMALL, heads=16, kv_heads=8),
    "untied": dataclasses.replace(SMALL, tied_embeddings=False),
    "no bigram": dataclasses.replace(SMALL, bigram_buckets=0),
    "two buckets": dataclasses.replace(SMALL, bigram_buckets=2),
    "no backout": dataclasses.replace(SMALL, backout=False),
    "backout of the first": dataclasses.replace(SMALL, backout_layer=0),
    "backout of the last": dataclasses.replace(SMALL, backout_layer=3),
    "a window": dataclasses.replace(SMALL, window=(5,)),
    "a window of two positions": dataclasses.replace(SMALL, window=(2,)),
    "a window for each block": dataclasses.replace(SMALL, window=(3, 0, 40, 7)),
    "bf16 frequencies": dataclasses.replace(SMALL, rope_bf16_frequencies=True),
    "a leaky ReLU": dataclasses.replace(SMALL, negative_slope=0.5),
    "no smear": dataclasses.replace(SMALL, smear="off"),
    "smear before the norm": dataclasses.replace(SMALL, smear="before_norm", smear_bos=82),
    "smear of few channels into every token": dataclasses.replace(
        SMALL, smear="before_norm", smear_window=3, smear_bos=-1
    ),
    "a rotation of two pairs": dataclasses.replace(SMALL, rope_dims=4),
    "norms of less from block to block": dataclasses.replace(SMALL, norm_scale=True),
    "exclusive attention": dataclasses.replace(SMALL, xsa_layers=4),
    "exclusive attention of the last block": dataclasses.replace(SMALL, xsa_layers=1, kv_heads=1),
    "gates of the heads": dataclasses.replace(SMALL, attention_gate=True),
    "small gates of the heads": dataclasses.replace(
        SMALL, attention_gate=True, attention_gate_window=5, attention_gate_scale=0.5, norm_scale=True
    ),
    "skip gates": dataclasses.replace(SMALL, skip_gates=True),
    "skip gates of five blocks": dataclasses.replace(SMALL, layers=5, skip_gates=True),
    "a loop": dataclasses.replace(SMALL, loops=2, loop_start=1, loop_end=2),
    "a loop of the last block": dataclasses.replace(SMALL, loops=1, loop_start=3, loop_end=3),
    "a loop of all blocks, without backout": dataclasses.replace(
        SMALL, loops=1, loop_start=0, loop_end=3, backout=False
    ),
    "a loop with skip gates": dataclasses.replace(SMALL, loops=2, loop_start=1, loop_end=2, skip_gates=True),
    "lanes": dataclasses.replace(SMALL, lanes_from=3),
    "lanes that end in that of the MLP": dataclasses.replace(SMALL, lanes_from=3, lanes_end="mlp"),
    "lanes that end in that of attention": dataclasses.replace(SMALL, lanes_from=3, lanes_end="attention"),
    "lanes from the first skip on": dataclasses.replace(SMALL, lanes_from=2, backout=False),
    "lanes from the first skip on, gated": dataclasses.replace(SMALL, lanes_from=2, backout=False, skip_gates=True),
    "all of the top": TOP,
    "all of the top, seen through windows": dataclasses.replace(TOP, window=(3, 0, 5, 7, 2)),
    "other constants": dataclasses.replace(SMALL, rope_base=37.0, logit_softcap=4.0, mlp_mult=1.7),
}


@functools.lru_cache
def random_float32(plain: Plain) -> plain_model.State:
    generator = torch.Generator().manual_seed(5)
    return plain_state.randomized(plain_state.initial_state(plain, generator), generator)


def random_state(plain: Plain, dtype: torch.dtype) -> plain_model.State:
    return {name: tensor.to(dtype, copy=True) for name, tensor in random_float32(plain).items()}


def random_rows(plain: Plain, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets; both ends of the vocabulary are among them, and a token that repeats."""
    ids = torch.randint(0, plain.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(rows * length))
    ends = torch.tensor([0, plain.vocab_size - 1, plain.vocab_size - 1, 0])[: length + 1]
    ids[0, : len(ends)] = ends
    return ids[:, :-1], ids[:, 1:]


def vanishing(plain: Plain) -> set[str]:
    """Parameters whose gradient is zero but for the norm's eps: the norm undoes a factor on the whole stream."""
    middle = plain.layers // 2 if plain.backout_layer < 0 else plain.backout_layer
    return {"backout_lambda"} if plain.backout and middle == plain.layers - 1 else set()


def check(plain: Plain, dtype: torch.dtype, rows: int, length: int, tolerance: float, looped: bool = True) -> None:
    """Compare a model of `dtype` with the plain version in float64."""
    state = random_state(plain, dtype)
    tokens, targets = random_rows(plain, rows, length)
    reference = plain_state.cast(state, torch.float64)
    expected_loss, expected = plain_model.gradients(
        reference, lambda leaves: plain_model.loss(leaves, tokens, targets, plain, looped)
    )
    model = package.build(plain, state)
    model.loop(looped)
    loss = model(tokens, targets)
    loss.backward()
    assert loss.shape == ()
    assert package.difference(loss.detach(), expected_loss) < tolerance
    with torch.no_grad():
        expected_logits = plain_model.forward(reference, tokens, plain, looped)
        assert package.difference(model.logits(tokens), expected_logits) < tolerance
        expected_losses = plain_model.token_losses(reference, tokens, targets, plain, looped)
        assert package.difference(model.token_losses(tokens, targets), expected_losses) < tolerance
    gradients = package.public_gradients(model)
    largest = max(float(gradient.abs().max()) for gradient in expected.values() if gradient.numel())
    for name in vanishing(plain):
        assert abs(float(gradients.pop(name) - expected.pop(name))) < tolerance * largest
    error, name = package.worst(gradients, expected)
    assert error < tolerance, f"gradient of {name}"
    silent = [name for name, gradient in expected.items() if gradient.numel() and not gradient.any()]
    assert not silent, "the state leaves a parameter without a gradient: the comparison would see nothing"


@pytest.mark.parametrize("plain", SHAPES.values(), ids=SHAPES.keys())
def test_float64(plain):
    check(plain, torch.float64, rows=2, length=9, tolerance=1e-10)


@pytest.mark.parametrize("plain", SHAPES.values(), ids=SHAPES.keys())
def test_float32(plain):
    check(plain, torch.float32, rows=2, length=9, tolerance=1e-4)


def test_float32_at_the_size_of_the_seed():
    check(Plain(), torch.float32, rows=1, length=64, tolerance=1e-4)


LOOPS = [name for name, plain in SHAPES.items() if plain.loops]


@pytest.mark.parametrize("name", LOOPS)
def test_before_the_loop_is_on(name):
    check(SHAPES[name], torch.float64, rows=2, length=9, tolerance=1e-10, looped=False)
    check(SHAPES[name], torch.float32, rows=2, length=9, tolerance=1e-4, looped=False)


def test_float32_at_the_size_of_the_top():
    plain = Plain(**{field.name: getattr(top_models.TOP, field.name) for field in dataclasses.fields(Plain)})
    check(plain, torch.float32, rows=1, length=9, tolerance=1e-4)


def test_one_token():
    state = random_state(SMALL, torch.float64)
    model = package.build(SMALL, state)
    for token in (0, SMALL.vocab_size - 1):
        tokens, targets = torch.tensor([[token]]), torch.tensor([[SMALL.vocab_size - 1 - token]])
        expected = plain_model.loss(state, tokens, targets, SMALL)
        assert package.difference(model(tokens, targets).detach(), expected) < 1e-12
        assert model.logits(tokens).shape == (1, 1, SMALL.vocab_size)


@pytest.mark.parametrize("bf16_frequencies", [False, True])
def test_far_positions(bf16_frequencies):
    """At position 2047 a frequency rounded to bf16 turns a pair by radians, so exact and rounded cannot be mixed up."""
    plain = Plain(
        vocab_size=19, dim=64, layers=1, heads=1, kv_heads=1, bigram_buckets=0, rope_bf16_frequencies=bf16_frequencies
    )
    state = random_state(plain, torch.float64)
    tokens, _ = random_rows(plain, 1, 2048)
    expected = plain_model.forward(state, tokens, plain)
    mixed_up = plain_model.forward(
        state, tokens, dataclasses.replace(plain, rope_bf16_frequencies=not bf16_frequencies)
    )
    assert package.difference(mixed_up, expected) > 1e-2
    with torch.no_grad():
        assert package.difference(package.build(plain, state).logits(tokens), expected) < 1e-10
        narrow = package.build(plain, plain_state.cast(state, torch.float32))
        assert package.difference(narrow.logits(tokens), expected) < 1e-3  # an angle of 2047 in float32 is off by 1e-4


def test_ids_beyond_16_bits_of_product():
    """With 65,536 ids the products of the hash leave int32 and wrap around."""
    plain = dataclasses.replace(SMALL, vocab_size=65536, layers=1)
    state = random_state(plain, torch.float64)
    tokens = torch.tensor([[65535, 65535, 60000, 0, 59139, 65534, 1]])
    with torch.no_grad():
        expected = plain_model.forward(state, tokens, plain)
        assert package.difference(package.build(plain, state).logits(tokens), expected) < 1e-12


@pytest.mark.parametrize("first", [0, 1, 5, 8])
@pytest.mark.parametrize("name", ["small", "one block", "no backout", "backout of the last"])
def test_losses_from_a_position_on_are_a_slice(name, first):
    model = package.build(SHAPES[name], random_state(SHAPES[name], torch.float64))
    tokens, targets = random_rows(SHAPES[name], 3, 9)
    with torch.no_grad():
        whole = model.token_losses(tokens, targets)
        torch.testing.assert_close(
            model.token_losses(tokens, targets, first=first), whole[:, first:], rtol=1e-12, atol=1e-12
        )


def test_the_last_block_computes_only_what_is_asked_for(monkeypatch):
    lengths = []
    mlp = ops.relu2_mlp
    monkeypatch.setattr(ops, "relu2_mlp", lambda x, *rest: lengths.append(x.shape[1]) or mlp(x, *rest))
    model = package.build(SMALL, random_state(SMALL, torch.float64))
    model.token_losses(*random_rows(SMALL, 3, 9), first=7)
    assert lengths == [9] * (SMALL.layers - 1) + [2]


def test_a_model_that_scored_can_train():
    """Tables that scoring leaves behind must serve a later backward, whatever length and mode came first."""
    model = package.build(SMALL, random_state(SMALL, torch.float32))
    tokens, targets = random_rows(SMALL, 2, 9)
    expected = model(tokens, targets).detach()
    fresh = package.build(SMALL, random_state(SMALL, torch.float32))
    with torch.inference_mode():
        fresh.logits(tokens[:, :4])
        fresh.logits(torch.cat([tokens, tokens], dim=1))
    loss = fresh(tokens, targets)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)


def test_the_compute_dtype_can_change():
    """bf16 is off by about 0.01 at logits of size 1.5 at the size of the seed, and nothing of float32 stays behind."""
    plain = Plain()
    state = random_state(plain, torch.float32)
    state["tok_emb.weight"] *= 0.15
    tokens, targets = random_rows(plain, 1, 64)
    model = package.build(plain, state)
    with torch.no_grad():
        exact = model.logits(tokens)
        model.compute_dtype = torch.bfloat16
        logits, losses = model.logits(tokens), model.token_losses(tokens, targets)
    assert logits.dtype == losses.dtype == torch.float32
    assert 1.0 < float(exact.std()) < 2.0
    assert 1e-4 < float((logits - exact).abs().mean()) < 0.03
