"""Each formula of the model on its own against the plain version."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import plain_model
from oracle.plain_model import Plain

from golf_fast import ops
from golf_fast.model import embedding


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(ours: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)


@settings(max_examples=200)
@given(
    ids=st.lists(
        st.one_of(st.integers(0, 65535), st.sampled_from([0, 1, 59138, 59139, 65535])), min_size=1, max_size=20
    ),
    buckets=st.one_of(st.integers(2, 70000), st.sampled_from([2, 3, 10240, 65536])),
)
def test_bigram_rows(ids, buckets):
    """59,138 is the last id whose product with 36,313 fits int32."""
    assert 36313 * 59138 < 1 << 31 <= 36313 * 59139
    rows = embedding.bigram_rows(torch.tensor([ids, ids[::-1]]), buckets)
    assert rows.dtype == torch.int64
    assert rows[0].tolist() == plain_model.bigram_rows_of_integers(ids, buckets)
    assert rows[1].tolist() == plain_model.bigram_rows_of_integers(ids[::-1], buckets)
    assert int(rows.min()) >= 0
    assert int(rows.max()) < buckets


def test_bigram_row_of_every_pair_of_a_small_vocabulary():
    size = 64
    pairs = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    expected = [(36313 * token ^ 27191 * before) % 10239 for before, token in pairs.tolist()]
    assert embedding.bigram_rows(pairs, 10240)[:, 1].tolist() == expected


@pytest.mark.parametrize("length", [1, 2, 7])
def test_smear(length):
    x, gate = normal(3, length, 5), 3 * normal(5, seed=1)
    mixed = embedding.smear(x, gate)
    for row in range(3):
        close(mixed[row], plain_model.smear(x[row], gate))


def test_smear_of_an_open_and_a_shut_gate():
    x = normal(1, 4, 2)
    gate = torch.tensor([-800.0, 800.0], dtype=torch.float64)
    mixed = embedding.smear(x, gate)[0]
    close(mixed[:, 0], x[0, :, 0])
    close(mixed[:, 1], torch.cat([torch.zeros(1, dtype=torch.float64), x[0, :-1, 1]]))


@pytest.mark.parametrize("scale", [1e-20, 1e-4, 1.0, 1e4])
def test_rms_norm(scale):
    """Far below float32's epsilon the eps decides, above it does not matter."""
    x = scale * normal(4, 6, 33)
    close(ops.rms_norm(x), plain_model.rms_norm(x), 1e-11)
    close(ops.rms_norm(x.float()).double(), plain_model.rms_norm(x), 1e-5)
    expected = x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1.1920929e-07)
    close(ops.rms_norm(x), expected, 1e-11)


def test_rms_norm_of_bf16_rounds_once():
    """Mean square in float32, one rounding at the end: squares in bf16 would be off by many units in the last place."""
    x = (30 * normal(64, 512)).bfloat16()
    normed = ops.rms_norm(x)
    assert normed.dtype == torch.bfloat16
    exact = plain_model.rms_norm(x.double())
    half_unit = 2.0**-9 * torch.exp2(torch.floor(torch.log2(exact.abs()))) * 2
    assert bool(((normed.double() - exact).abs() <= half_unit * 1.01).all())


def test_rms_norm_of_zeros_is_zero():
    x = torch.zeros(2, 3, 8, requires_grad=True)
    normed = ops.rms_norm(x)
    normed.sum().backward()
    assert not normed.any()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def tables(length: int, head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = plain_model.rotary_angles(length, head_dim, Plain(), torch.float64)
    return angles.cos(), angles.sin()


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(8, 4, 64), (3, 3, 2), (6, 1, 10)])
def test_queries_and_keys(heads, kv_heads, head_dim):
    length = 5
    q, k = normal(2, length, heads, head_dim), normal(2, length, kv_heads, head_dim, seed=1)
    gain = 1 + normal(heads, seed=2)
    cos, sin = tables(length, head_dim)
    q_out, k_out = ops.qk_norm_rope(q, k, gain, cos, sin)
    angles = plain_model.rotary_angles(length, head_dim, Plain(), torch.float64)
    for row in range(2):
        for head in range(heads):
            expected = gain[head] * plain_model.rotate(plain_model.rms_norm(q[row, :, head]), angles)
            close(q_out[row, :, head], expected)
        for head in range(kv_heads):
            close(k_out[row, :, head], plain_model.rotate(plain_model.rms_norm(k[row, :, head]), angles))


def test_rotation_by_hand():
    """At position 1 the pair (a, b) = (dim 0, dim 2) turns by one radian to (a cos + b sin, -a sin + b cos)."""
    q = torch.tensor([0.0, 0, 0, 0, 1, 0, 1, 0], dtype=torch.float64).view(1, 2, 1, 4)
    k = torch.zeros_like(q)
    q_out, _ = ops.qk_norm_rope(q, k, torch.ones(1, dtype=torch.float64), *tables(2, 4))
    norm = math.sqrt(2)  # the mean square of (1, 0, 1, 0) is 1/2
    expected = [norm * (math.cos(1) + math.sin(1)), 0, norm * (-math.sin(1) + math.cos(1)), 0]
    assert q_out[0, 1, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("heads", "kv_heads", "length"), [(4, 2, 9), (4, 4, 1), (6, 1, 5), (8, 4, 17)])
def test_attention(heads, kv_heads, length):
    head_dim = 6
    q = 3 * normal(2, length, heads, head_dim)
    k, v = normal(2, length, kv_heads, head_dim, seed=1), normal(2, length, kv_heads, head_dim, seed=2)
    out = ops.window_attention(q, k, v)
    assert out.shape == q.shape
    for row in range(2):
        for head in range(heads):
            shared = head // (heads // kv_heads)
            for i in range(length):
                scores = [float(q[row, i, head] @ k[row, j, shared]) / math.sqrt(head_dim) for j in range(i + 1)]
                top = max(scores)
                shares = [math.exp(score - top) for score in scores]
                expected = sum(share / sum(shares) * v[row, j, shared] for j, share in enumerate(shares))
                close(out[row, i, head], expected)


def test_mlp():
    x, up, down = normal(2, 3, 8), normal(20, 8, seed=1), normal(8, 20, seed=2)
    state = {"blocks.0.mlp.fc.weight": up, "blocks.0.mlp.proj.weight": down}
    out = ops.relu2_mlp(x, up, down)
    for row in range(2):
        close(out[row], plain_model.mlp(state, 0, x[row], Plain()))
    hidden = [max(float(up[h] @ x[1, 2]), 0.0) ** 2 for h in range(20)]
    close(out[1, 2], sum(hidden[h] * down[:, h] for h in range(20)))


@pytest.mark.parametrize("softcap", [30.0, 2.5])
def test_head(softcap):
    x, matrix = 4 * normal(3, 7, 16), normal(29, 16, seed=1)
    targets = torch.randint(0, 29, (3, 7), generator=torch.Generator().manual_seed(2))
    logits = ops.softcap_logits(x, matrix, softcap)
    losses = ops.softcap_cross_entropy(x, matrix, targets, softcap)
    for row in range(3):
        for i in range(7):
            expected = [softcap * math.tanh(float(x[row, i] @ matrix[j]) / softcap) for j in range(29)]
            close(logits[row, i], torch.tensor(expected, dtype=torch.float64))
            total = math.log(sum(math.exp(value) for value in expected))
            assert float(losses[row, i]) == pytest.approx(total - expected[int(targets[row, i])], rel=1e-12)
    assert float(logits.abs().max()) <= softcap


def test_head_of_extreme_rows():
    """Logits at the cap: a finite loss, a finite gradient, and twice the cap between the best and the worst."""
    x = torch.tensor([[1e4]], requires_grad=True)
    matrix = torch.tensor([[1.0], [-1.0]])
    losses = ops.softcap_cross_entropy(x, matrix, torch.tensor([1]), 30.0)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([60.0])
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
