"""The plain versions against torch's own operations and values worked out by hand: an oracle can be wrong too."""

import math

import pytest
import torch
from oracle import plain_model, plain_state, plain_training
from oracle.plain_model import Plain
from oracle.plain_training import Settings, Training
from torch.nn import functional as F

TINY = Plain(vocab_size=40, dim=32, layers=3, heads=4, kv_heads=2, bigram_buckets=31, bigram_dim=8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_seed_has_25517138_parameters():
    assert plain_model.count_parameters(plain_state.initial_state(Plain(), generator())) == 25_517_138


def test_bigram_rows_by_hand():
    # 36313 * 2 = 0x11BB2, 27191 * 1 = 0x06A37, xor 0x17185 = 94597 = 9 * 10239 + 2446
    assert plain_model.bigram_rows_of_integers([1, 2], 10240) == [10239, 2446]
    # 36313 * 60000 = 2178780000 does not fit 31 bits: 2178780000 - 2^32 = -2116187296
    assert plain_model.int32(36313 * 60000) == -2116187296
    assert plain_model.bigram_rows_of_integers([0, 60000], 10240) == [10239, -2116187296 % 10239]
    assert plain_model.bigram_rows(torch.tensor([0, 60000]), 10240).tolist() == [10239, -2116187296 % 10239]


def test_attention_is_torch_attention():
    state = plain_state.cast(
        plain_state.randomized(plain_state.initial_state(TINY, generator()), generator(1)), torch.float64
    )
    x = torch.randn(9, 32, generator=generator(2), dtype=torch.float64)
    d = 8
    angles = plain_model.rotary_angles(9, d, TINY, torch.float64)
    rotation = torch.polar(torch.ones_like(angles), -angles)

    def turned(part: str, heads: int) -> torch.Tensor:
        projected = F.linear(x, state[f"blocks.1.attn.{part}.weight"]).view(9, heads, d)
        normed = F.rms_norm(projected, (d,), eps=plain_model.EPS)
        pairs = torch.complex(normed[..., : d // 2], normed[..., d // 2 :]) * rotation[:, None]
        return torch.cat([pairs.real, pairs.imag], dim=-1).transpose(0, 1)

    q = turned("c_q", 4) * state["blocks.1.attn.q_gain"][:, None, None]
    v = F.linear(x, state["blocks.1.attn.c_v.weight"]).view(9, 2, d).transpose(0, 1)
    out = F.scaled_dot_product_attention(q[None], turned("c_k", 2)[None], v[None], is_causal=True, enable_gqa=True)[0]
    expected = F.linear(out.transpose(0, 1).flatten(1), state["blocks.1.attn.proj.weight"])
    torch.testing.assert_close(plain_model.attention(state, 1, x, TINY), expected, rtol=1e-12, atol=1e-12)


def test_bf16_frequencies_move_the_tables_by_086():
    exact = plain_model.rotary_angles(2048, 64, Plain())
    rounded = plain_model.rotary_angles(2048, 64, Plain(rope_bf16_frequencies=True))
    moved = max(float((exact.cos() - rounded.cos()).abs().max()), float((exact.sin() - rounded.sin()).abs().max()))
    assert moved == pytest.approx(0.86, abs=0.006)


def test_loss_is_cross_entropy():
    state = plain_state.randomized(plain_state.initial_state(TINY, generator()), generator(1))
    ids = torch.randint(0, 40, (2, 7), generator=generator(3))
    logits = plain_model.forward(state, ids[:, :-1], TINY)
    expected = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(plain_model.loss(state, ids[:, :-1], ids[:, 1:], TINY), expected)


def test_adamw_is_torch_adamw():
    settings = Settings()
    weight = torch.randn(5, 3, generator=generator(), dtype=torch.float64)
    theirs = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW([theirs], lr=0.03, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.04)
    ours = Training({"tok_emb.weight": weight})
    for step in range(5):
        grad = torch.randn(5, 3, generator=generator(step), dtype=torch.float64)
        theirs.grad = grad.clone()
        optimizer.step()
        plain_training.adamw_update(ours, "tok_emb.weight", grad, 0.03, 0.04, settings)
        ours.step += 1
        torch.testing.assert_close(ours.weights["tok_emb.weight"], theirs.detach(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (24, 8), (1, 5)])
def test_orthogonalized_keeps_singular_vectors(shape):
    matrix = torch.randn(shape, generator=generator(), dtype=torch.float64)
    update = plain_training.orthogonalized(matrix, 5, torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    scale = math.sqrt(max(1.0, shape[0] / shape[1]))
    diagonal = u.T @ update @ vh.T / scale
    x = s / (s.norm() + 1e-7)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    torch.testing.assert_close(diagonal, torch.diag(x), rtol=1e-10, atol=1e-10)


def test_clip_counts_every_gradient_once():
    grads = {"a": torch.full((3,), 2.0), "b": torch.tensor(2.0)}
    scaled, norm = plain_training.clipped(grads, 0.3)
    assert norm == 4.0
    torch.testing.assert_close(scaled["b"], torch.tensor(2.0 * 0.3 / (4.0 + 1e-6)))
    assert plain_training.clipped(grads, 5.0)[0]["a"].tolist() == [2.0, 2.0, 2.0]
