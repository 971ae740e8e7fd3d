"""What is collected during a forward pass, against the same made by hand."""

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import top_models
from torch.nn import functional as F

from golf_fast.config import ModelConfig
from golf_fast.data import Batch
from golf_fast.data.loader import TokenStream
from golf_fast.data.shards import write_shard
from golf_fast.data.token_bytes import TokenBytes
from golf_fast.distributed import Ranks
from golf_fast.model import GPT, upstream
from golf_fast.ops import backends
from golf_fast.pipeline.calibration import bits_per_byte, gram_matrices, next_batches

CONFIG = ModelConfig(
    vocab_size=50, dim=64, layers=2, heads=2, kv_heads=1, mlp_mult=1.0, bigram_buckets=30, bigram_dim=16
)


TOP = dataclasses.replace(top_models.SMALL_TOP, vocab_size=50, dim=64, rope_dims=4, attention_gate_scale=1)


def model(config: ModelConfig = CONFIG) -> GPT:
    gpt = GPT(config, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return gpt


def batch(rows: int = 3, seed: int = 0) -> Batch:
    span = torch.randint(CONFIG.vocab_size, (rows, 17), generator=torch.Generator().manual_seed(seed))
    return Batch(span[:, :-1], span[:, 1:])


def seen_by_products(gpt: GPT, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What goes into each product with a weight matrix, in the order of the forward pass."""
    inputs = []
    product = F.linear

    def watched(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        inputs.append(x.detach().flatten(0, -2))
        return product(x, weight)

    with monkeypatch.context() as patch, backends.requested("reference"):
        patch.setattr(F, "linear", watched)
        gpt.logits(tokens)
    return inputs


def test_grams_are_those_of_what_the_matrices_see(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt, (tokens, targets, _) = model(), batch()
    found = gram_matrices(gpt, [Batch(tokens, targets)], Ranks.single())
    matrices = {name for name, tensor in upstream.export(gpt).items() if name.endswith(".weight")}
    assert set(found) == matrices
    inputs = seen_by_products(gpt, tokens, monkeypatch)
    of_a_block = [("attn.c_q", "attn.c_k", "attn.c_v"), ("attn.proj",), ("mlp.fc",), ("mlp.proj",)]
    order = [["bigram.proj"]]
    order += [[f"blocks.{layer}.{name}" for name in names] for layer in range(CONFIG.layers) for names in of_a_block]
    assert len(inputs) == len(order) + 1, "the last is the head's"
    for names, x in zip(order, inputs, strict=False):
        for name in names:
            torch.testing.assert_close(found[f"{name}.weight"], x.T @ x, rtol=1e-4, atol=1e-4)
    logits = gpt.logits(tokens)
    assert found["tok_emb.weight"].diagonal().sum() == pytest.approx(CONFIG.dim * logits[..., 0].numel(), rel=1e-4)
    projection = gpt.bigram_proj.detach()
    torch.testing.assert_close(found["bigram.embed.weight"], projection.T @ projection)


def test_the_slots_of_a_layer_add_up_and_lanes_are_seen_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers 1 and 2 run three times; from layer 3 on the MLP reads a stream of its own. What a published matrix reads
    has the scale of the norm in it, what ours reads has not."""
    gpt, (tokens, targets, _) = model(TOP), batch()
    found = gram_matrices(gpt, [Batch(tokens, targets)], Ranks.single())
    assert set(found) == {name for name in upstream.export(gpt) if name.endswith(".weight") and "smear" not in name}
    smear, *inputs, _ = seen_by_products(gpt, tokens, monkeypatch)
    assert smear.shape[1] == 12
    expected = {name: torch.zeros_like(gram) for name, gram in found.items()}
    for slot in gpt.plan.slots:
        attention, gate, attended, mlp, hidden = inputs[:5]
        del inputs[:5]
        assert torch.equal(gate, attention[:, :12])
        square = 1 / (slot.layer + 1)
        of_slot = {
            "attn.c_q": square * attention.T @ attention,
            "attn.proj": attended.T @ attended,
            "mlp.fc": square * mlp.T @ mlp,
            "mlp.proj": hidden.T @ hidden,
        }
        of_slot |= dict.fromkeys(("attn.c_k", "attn.c_v"), of_slot["attn.c_q"])
        for name, gram in of_slot.items():
            expected[f"blocks.{slot.layer}.{name}.weight"] += gram
    assert not inputs
    for name in expected.keys() - {"tok_emb.weight"}:
        largest = float(expected[name].max())
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5 * largest)


def test_batches_add_up_and_nothing_is_left_behind() -> None:
    gpt = model()
    first, second = batch(seed=1), batch(seed=2)
    both = gram_matrices(gpt, [first, second], Ranks.single())
    joined = gram_matrices(gpt, [first.joined([second])], Ranks.single())
    for name, gram in both.items():
        torch.testing.assert_close(gram, joined[name], rtol=1e-4, atol=1e-4)
    assert gpt.observer is None
    with pytest.raises(IndexError):
        gram_matrices(gpt, [Batch(first.tokens + CONFIG.vocab_size, first.targets)], Ranks.single())
    assert gpt.observer is None


def test_documents_reach_the_model() -> None:
    """One row of two documents has the sums of two rows."""
    rows = batch(rows=2)
    ends = torch.tensor([0, 16, 32], dtype=torch.int32)
    packed = gram_matrices(
        model(), [Batch(rows.tokens.reshape(1, -1), rows.targets.reshape(1, -1), ends)], Ranks.single()
    )
    for name, gram in gram_matrices(model(), [rows], Ranks.single()).items():
        torch.testing.assert_close(packed[name], gram, rtol=1e-3, atol=1e-3)


def stream(folder: Path, tokens: int = 5000) -> TokenStream:
    path = folder / "fineweb_train_000000.bin"
    write_shard(path, np.arange(tokens, dtype=np.uint16) % CONFIG.vocab_size)
    return TokenStream([path], CONFIG.vocab_size)


@pytest.mark.parametrize("wanted", [1, 64, 100, 20_000])
@pytest.mark.parametrize("world_size", [1, 4])
def test_ranks_take_consecutive_tokens_from_the_position_on(tmp_path: Path, wanted: int, world_size: int) -> None:
    held = stream(tmp_path, 70_000)
    shares = [next_batches(held, 777, wanted, 16, Ranks(r, world_size, torch.device("cpu"))) for r in range(world_size)]
    assert len({after for _, after in shares}) == 1
    seen = [int(t) for batches, _ in shares for found in batches for t in found.tokens.flatten()]
    assert wanted <= len(seen) <= wanted + 16 * world_size + 0.1 * wanted
    position = 777
    for step in range(len(shares[0][0])):
        for batches, _ in shares:
            tokens, targets, _ = batches[step]
            span = (np.arange(position, position + tokens.numel() + 1)) % CONFIG.vocab_size
            assert tokens.flatten().tolist() == span[:-1].tolist()
            assert targets.flatten().tolist() == span[1:].tolist()
            position += tokens.numel() + 1
    assert position == shares[0][1]


def test_bits_per_byte_by_hand() -> None:
    gpt, batches = model(), [batch(seed=1), batch(rows=1, seed=2)]
    base = np.arange(CONFIG.vocab_size, dtype=np.int16) % 5
    bytes_of = TokenBytes(base, np.zeros(CONFIG.vocab_size, bool), np.zeros(CONFIG.vocab_size, bool))
    nats, size = 0.0, 0
    for tokens, targets, _ in batches:
        nats += gpt(tokens, targets).item() * targets.numel()
        size += int(base[targets.numpy()].sum())
    found = bits_per_byte(gpt, batches, bytes_of, torch.device("cpu"))
    assert found == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def _work(folder: Path) -> None:
    ranks = Ranks.from_environment("cpu")
    torch.save(gram_matrices(model(), [batch(seed=ranks.rank)], ranks), folder / f"{ranks.rank}.pt")
    ranks.close()


def test_every_rank_gets_the_sum_of_all(run_ranks: Callable[..., None], tmp_path: Path) -> None:
    run_ranks(__file__, 2, tmp_path)
    alone = gram_matrices(model(), [batch(seed=0), batch(seed=1)], Ranks.single())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, gram in alone.items():
            torch.testing.assert_close(found[name], gram, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    _work(Path(sys.argv[1]))
