import numpy as np
import pytest
import torch

from golf_fast.compress import prune
from golf_fast.compress.integers.quantiles import quantile, row_quantiles
from golf_fast.config import CompressConfig


def matrix(rows: int, cols: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def test_zeroes_what_is_strictly_below_the_quantile() -> None:
    weights = matrix(257, 256)
    threshold = np.quantile(weights.abs().numpy(), 0.03)
    pruned = prune({"tok_emb.weight": weights}, CompressConfig())["tok_emb.weight"]
    expected = np.where(np.abs(weights.numpy()) < threshold, 0, weights.numpy())
    assert np.array_equal(pruned.numpy(), expected)
    assert int((pruned == 0).sum()) == 1974  # 0.03 * 65791 = 1973.73: the elements 0 to 1973 are below


def test_elements_equal_to_the_quantile_stay() -> None:
    weights = torch.full((257, 256), -0.5)
    assert torch.equal(prune({"w": weights}, CompressConfig())["w"], weights)


@pytest.mark.parametrize(
    "tensor",
    [matrix(256, 256), torch.randn(70000), torch.randn(2, 200, 200), torch.arange(66000).reshape(2, -1)],
    ids=["65536 elements", "1-D", "3-D", "integers"],
)
def test_others_are_handed_on(tensor: torch.Tensor) -> None:
    assert prune({"w": tensor}, CompressConfig())["w"] is tensor


def test_no_pruning_when_the_share_is_zero() -> None:
    weights = matrix(300, 300)
    assert prune({"w": weights}, CompressConfig(prune_quantile=0))["w"] is weights


def test_input_is_not_changed_and_dtype_is_kept() -> None:
    weights = matrix(300, 300).bfloat16().requires_grad_()
    before = weights.detach().clone()
    pruned = prune({"w": weights}, CompressConfig())["w"]
    assert torch.equal(weights.detach(), before)
    assert pruned.dtype == torch.bfloat16
    assert not pruned.requires_grad


@pytest.mark.parametrize("q", [0.0, 0.03, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("count", [1, 2, 101, 1000])
def test_selection_equals_interpolation(q: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = matrix(1, count)
    expected = np.quantile(values.double().numpy(), q)
    assert quantile(values, q).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    monkeypatch.setattr("golf_fast.compress.integers.quantiles.TORCH_LIMIT", 0)
    assert quantile(values, q).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_quantile_beyond_the_limit_of_torch() -> None:
    values = torch.arange(16_777_300, dtype=torch.float32).flip(0)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(values, 0.5)
    assert quantile(values, 0.25).item() == pytest.approx(0.25 * (values.numel() - 1), rel=1e-6)


@pytest.mark.parametrize("limit", [4, 7, 20, 10**6])
def test_row_quantiles_do_not_depend_on_the_pieces(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = matrix(5, 7)
    expected = torch.quantile(values, 0.9, dim=1)
    monkeypatch.setattr("golf_fast.compress.integers.quantiles.TORCH_LIMIT", limit)
    assert torch.allclose(row_quantiles(values, 0.9), expected, rtol=1e-6)
