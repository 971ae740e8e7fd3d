"""The update spread over ranks against the same on one: weights, state by rows, what one rank's fault does to all."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import plain_run, sharded_run
from helpers.plain_run import MODEL, TRAIN

from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.train import Optimizer, Rates
from golf_fast.train.agreement import fingerprint

SINGLE = Ranks.single()
SIZES = (2, 3, 4)


@pytest.fixture(scope="module")
def by_world_size(tmp_path_factory: pytest.TempPathFactory, run_ranks: Callable[..., None]) -> dict[int, Any]:
    folder = tmp_path_factory.mktemp("sharded")
    plain_run.shard(folder)
    for world_size in SIZES:
        run_ranks(sharded_run.__file__, world_size, folder)
    return {size: [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)] for size in SIZES}


@pytest.fixture(scope="module")
def alone() -> tuple[GPT, Optimizer]:
    model = GPT(MODEL, seed=3)
    optimizer = Optimizer(model, TRAIN, SINGLE)
    for number in range(sharded_run.STEPS):
        sharded_run.step(optimizer, model, number, SINGLE)
    return model, optimizer


def joined(results: list[Any], name: str) -> torch.Tensor:
    """The whole tensor of what ranks keep, which must overlap nowhere and leave nothing out."""
    pieces = [result["state"][name] for result in results]
    tensor, first, rows = pieces[0]
    if len(tensor) == rows:
        assert all(torch.equal(piece[0], tensor) for piece in pieces), name
        return tensor
    at = 0
    for tensor, first, of in pieces:
        assert (first, of) == (at, rows), name
        at += len(tensor)
    assert at == rows, name
    return torch.cat([piece[0] for piece in pieces])


@pytest.mark.parametrize("size", SIZES)
def test_ranks_update_as_one_does(by_world_size: dict[int, Any], alone: tuple[GPT, Optimizer], size: int) -> None:
    """The gradients are the same to the bit; the norm is added up in another order."""
    model, optimizer = alone
    for result in by_world_size[size]:
        for name, parameter in model.named_parameters():
            assert torch.allclose(result["weights"][name], parameter, rtol=1e-5, atol=1e-6), name
            assert torch.equal(result["weights"][name], by_world_size[size][0]["weights"][name]), name
    for name, piece in optimizer.state().items():
        whole = joined(by_world_size[size], name)
        assert whole.shape == piece.tensor.shape, name
        assert torch.allclose(whole, piece.tensor, rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("size", SIZES)
def test_momentum_is_kept_once(by_world_size: dict[int, Any], size: int) -> None:
    for bank in ("qo_bank", "kv_bank", "mlp_up", "mlp_down"):
        first, *_ = by_world_size[size]
        tensor, _, rows = first["state"][f"muon.momentum.{bank}"]
        assert len(tensor) == -(-rows // size), bank
    last = by_world_size[4][-1]["state"]["muon.momentum.mlp_up"]
    assert (len(last[0]), last[1], last[2]) == (0, 3, 3), "of three matrices the fourth rank has none"


@pytest.mark.parametrize("size", SIZES)
def test_state_kept_by_ranks_goes_on_alone(by_world_size: dict[int, Any], size: int) -> None:
    results = by_world_size[size]
    model = GPT(MODEL, seed=4)
    model.load_state_dict(results[0]["weights"])
    optimizer = Optimizer(model, TRAIN, SINGLE)
    optimizer.load(lambda name, first, count: joined(results, name)[first : first + count])
    for name, piece in optimizer.state().items():
        assert torch.equal(piece.tensor, joined(results, name)), name
    sharded_run.step(optimizer, model, sharded_run.STEPS, SINGLE)
    assert optimizer.adamw.count == sharded_run.STEPS + 1


@pytest.mark.parametrize("size", SIZES)
def test_a_gradient_that_is_not_finite_on_one_rank_changes_nothing_on_any(
    by_world_size: dict[int, Any], size: int
) -> None:
    assert [result["unchanged"] for result in by_world_size[size]] == [True] * size


@pytest.mark.parametrize("size", [2, 4])
def test_a_loss_that_is_no_number_on_one_rank_stops_all_at_that_step(by_world_size: dict[int, Any], size: int) -> None:
    said = {result["training"] for result in by_world_size[size]}
    assert said == {"train_loss is nan at step 3: lower the learning rates (train.matrix_lr, ...)"}


@pytest.mark.parametrize("size", SIZES)
def test_ranks_that_differ_are_named(by_world_size: dict[int, Any], size: int) -> None:
    for result in by_world_size[size]:
        assert result["agreed"] == "nothing"
        assert result["disagreed"].startswith("attn_scale of rank 1 differs from rank 0's after step 7: ")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fingerprint_tells_values_and_places_apart(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((), (5,), (3, 4), (2, 3, 4)):
        tensor = torch.randn(shape, generator=generator).to(dtype)
        assert torch.equal(fingerprint(tensor), fingerprint(tensor.clone()))
        assert not torch.equal(fingerprint(tensor), fingerprint(-tensor))
        if tensor.ndim:
            assert not torch.equal(fingerprint(tensor), fingerprint(tensor.flip(-1)))
            assert not torch.equal(fingerprint(tensor), fingerprint(tensor.flip(0)))
        for place in range(tensor.numel()):
            other = tensor.clone()
            other.view(-1)[place] *= -1
            assert not torch.equal(fingerprint(tensor), fingerprint(other))


def test_found_has_the_norms_and_the_loss(alone: tuple[GPT, Optimizer]) -> None:
    model, _ = alone
    optimizer = Optimizer(model, TRAIN, SINGLE)
    sharded_run.give_gradients(model, 9, 0, 1)
    norms = [float(parameter.grad.double().norm()) for parameter in model.parameters()]
    optimizer.step(Rates(0.0, 0.9), torch.tensor(2.5))
    assert optimizer.found.tolist() == pytest.approx([*norms, 2.5], rel=1e-6)
