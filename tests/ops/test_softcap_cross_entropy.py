"""softcap_cross_entropy beyond the samples of the registry: long rows, extreme logits, small gradients, errors."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import GuardBand

from golf_fast.ops import passes, softcap_cross_entropy, softcap_losses
from golf_fast.ops.softcap_cross_entropy import reference

pytest.importorskip("triton")

from golf_fast.ops.softcap_cross_entropy import triton as kernels

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, where the extremes overflow
interpreter = pytest.mark.interpreter


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def exact(logits: torch.Tensor, targets: torch.Tensor, softcap: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and the derivative of each by its logits, in float64."""
    leaf = logits.double().requires_grad_()
    losses = torch.nn.functional.cross_entropy(softcap * torch.tanh(leaf / softcap), targets, reduction="none")
    return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


def check_configuration(row: kernels.Row, softcap: float, device: str, dtype: torch.dtype) -> None:
    def launch(logits, targets, losses, gradient):
        kernels.row_launch(logits, targets, losses, softcap, gradient, row)()

    check_rows(launch, 1000 if row.whole else 9001, softcap, device, dtype)


def check_rows(launch, vocabulary: int, softcap: float, device: str, dtype: torch.dtype) -> None:
    """The kernel writes losses and, if asked, the derivative in the place of the logits, and nothing around them."""
    logits = random(3, vocabulary, scale=10.0)
    # a first row far down at the cap, a last one with its peak in the last column
    logits[0] = -1e4
    logits[0, 17] = -5.0
    logits[2, -1] = 1e4
    logits = logits.to(device, dtype)
    targets = torch.tensor([17, 400, vocabulary - 1], device=device)
    losses, change = exact(logits, targets, softcap)
    rounding = 1e-4 if dtype == torch.float32 else 1e-2
    for gradient in (False, True):
        band, out = GuardBand((3, vocabulary), dtype, device), GuardBand((3,), torch.float32, device)
        band.tensor.copy_(logits)
        launch(band.tensor, targets, out.tensor, gradient)
        torch.testing.assert_close(out.tensor.double(), losses, rtol=2e-6, atol=2e-5)
        expected = change if gradient else logits.double()
        torch.testing.assert_close(band.tensor.double(), expected, rtol=rounding, atol=1e-6)
        band.check()
        out.check()


@interpreter
@pytest.mark.parametrize("row", kernels.ROWS, ids=lambda row: f"{row.columns}{'' if row.whole else ' at a time'}")
@pytest.mark.parametrize("softcap", [30.0, 5.0])
def test_each_configuration_writes_its_rows_and_nothing_else(row: kernels.Row, softcap: float) -> None:
    check_configuration(row, softcap, "cpu", torch.float32)


@pytest.mark.parametrize("path", passes.paths())
@pytest.mark.parametrize("vocabulary", [1000, 1024, 1003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("softcap", [30.0, 5.0])
def test_each_path_in_cpp_writes_its_rows_and_nothing_else(
    path: str, vocabulary: int, softcap: float, dtype: torch.dtype
) -> None:
    def launch(logits, targets, losses, gradient):
        with passes.using(path):
            passes.run("softcap_cross_entropy", logits, logits, targets, None, losses, 3, vocabulary, softcap, gradient)

    check_rows(launch, vocabulary, softcap, "cpu", dtype)


@pytest.mark.parametrize("path", passes.paths())
def test_cpp_on_what_a_sum_of_exponentials_can_lose(path: str) -> None:
    """Every logit far below a large cap; no number in one row; targets outside of the vocabulary."""
    logits, losses = torch.full((5, 9001), -900.0), torch.empty(5)
    logits[1, 9000] = float("nan")
    logits[4] = torch.linspace(-3, 3, 9001)
    targets = torch.tensor([5, 5, -1, 9001, 9000])
    expected = exact(logits, targets.clamp(0, 9000), 1000.0)[0]
    with passes.using(path):
        passes.run("softcap_cross_entropy", logits, logits, targets, None, losses, 5, 9001, 1000.0, True)
    assert losses.isnan().tolist() == [False, True, True, True, False]
    torch.testing.assert_close(losses[[0, 4]].double(), expected[[0, 4]], rtol=1e-6, atol=1e-4)
    assert bool(logits[1].isnan().all())


@pytest.mark.gpu
@pytest.mark.parametrize("row", kernels.ROWS, ids=lambda row: f"{row.columns}{'' if row.whole else ' at a time'}")
def test_each_configuration_on_a_gpu(row: kernels.Row) -> None:
    check_configuration(row, 30.0, "cuda", torch.bfloat16)


def test_heuristic_returns_only_what_is_compiled_and_uses_each() -> None:
    assert {kernels.choose_row(v) for v in (1, 83, 1024, 1025, 4096, 8192, 8193, 65536)} == set(kernels.ROWS)
    assert all(row.columns >= 1024 for row in kernels.ROWS)


@interpreter
def test_large_softcap_needs_no_bound() -> None:
    """Where every logit is far below the cap, the sum of exponentials must not vanish."""
    logits = torch.full((1, 9000), -900.0)
    out = torch.empty(1)
    kernels.row_launch(logits, torch.tensor([5]), out, 1000.0, False, kernels.ROWS[-1])()
    torch.testing.assert_close(out, torch.tensor([9000.0]).log(), rtol=0, atol=2e-3)


@interpreter
@pytest.mark.parametrize("target", [-1, -100, 10, 1 << 40])
def test_a_target_outside_the_vocabulary_is_nan_and_alone(target: int, use_triton) -> None:
    x, weight = random(3, 8), random(10, 8, seed=1)
    losses = softcap_cross_entropy(x, weight, torch.tensor([1, target, 2]), 30.0)
    assert losses.isnan().tolist() == [False, True, False]


@interpreter
def test_a_nan_stays_in_its_row(use_triton) -> None:
    x, weight = random(3, 8), random(10, 8, seed=1)
    x[1, 2] = float("nan")
    leaf = x.requires_grad_()
    losses = softcap_cross_entropy(leaf, weight, torch.tensor([1, 1, 2]), 30.0)
    losses[[0, 2]].sum().backward()
    assert losses.isnan().tolist() == [False, True, False]
    assert bool(leaf.grad[[0, 2]].isfinite().all())


@interpreter
def test_strided_inputs_are_read_where_they_are(use_triton) -> None:
    """As scoring passes them: the last positions of each row."""
    x, weight, targets = random(3, 9, 16)[:, 5:, ::2], random(10, 8, seed=1), torch.arange(27).view(3, 9)[:, 5:] % 10
    for some in (slice(None), slice(1)):
        expected = reference.softcap_cross_entropy(x[some], weight, targets[some], 30.0)
        torch.testing.assert_close(softcap_cross_entropy(x[some], weight, targets[some], 30.0), expected)
    every_other = torch.arange(8)[::2]
    expected = reference.softcap_cross_entropy(x[0], weight, every_other, 30.0)
    torch.testing.assert_close(softcap_cross_entropy(x[0], weight, every_other, 30.0), expected)


@interpreter
def test_scoring_saves_nothing_and_training_one_tensor_of_logits(use_triton) -> None:
    x, weight, targets = random(5, 8), random(10, 8, seed=1).requires_grad_(), torch.arange(5)
    shapes: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(t.shape) or t, lambda t: t):
        with torch.no_grad():
            softcap_cross_entropy(x, weight, targets, 30.0)
        assert shapes == []
        softcap_cross_entropy(x, weight, targets, 30.0)
    assert shapes.count(torch.Size((5, 10))) == 1


@interpreter
def test_float16_gradients_of_a_mean_over_many_rows(use_triton) -> None:
    """1 / 98,304 is a subnormal float16; the shape of the gradient goes through the product, its size does not."""
    x, weight, targets = random(6, 64), random(40, 64, seed=1, scale=0.2), torch.arange(6)
    expected = []
    for dtype, function in ((torch.float64, reference.softcap_cross_entropy), (torch.float16, softcap_cross_entropy)):
        leaf = weight.to(dtype).requires_grad_()
        (function(x.to(dtype), leaf, targets, 30.0).sum() / 98304).backward()
        expected.append(leaf.grad.double())
    # half a step of the float16 subnormals, 3e-8, and the rounding of the product
    assert float((expected[0] - expected[1]).abs().max()) <= 3.0e-8 + 2e-3 * float(expected[0].abs().max())


@interpreter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": random(5, 9)}, r"weight is \(10, 8\); it must be \[V, D\], with the D of x, which is \(5, 9\)"),
        ({"weight": random(10, 8).half()}, r"weight is torch.float16; it must be the dtype of x, torch.float32"),
        ({"x": random(5, 8).double(), "weight": random(10, 8).double()}, r"x is torch.float64"),
        ({"targets": torch.arange(4)}, r"targets is \(4,\); it must be \(5,\)"),
        ({"targets": torch.arange(5).int()}, r"targets is torch.int32; it must be torch.int64"),
        ({"softcap": 0.0}, r"softcap is 0.0; it must be more than 0"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], message: str, use_triton) -> None:
    arguments = {"x": random(5, 8), "weight": random(10, 8), "targets": torch.arange(5), "softcap": 30.0} | change
    with pytest.raises(ValueError, match=message):
        softcap_cross_entropy(**arguments)


@pytest.mark.parametrize("path", passes.paths())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_losses_of_logits_and_their_gradient(path: str, dtype: torch.dtype) -> None:
    """A row whose gradient is 0, rows of different weight, strided logits, and a NaN that stays in its row."""
    given = random(4, 5, 1003, scale=8.0).to(dtype)[:, ::2]
    targets, weights = torch.arange(12).view(4, 3) * 80, torch.arange(12.0).view(4, 3)
    found = []
    for function, logits in ((softcap_losses, given), (reference.softcap_losses, given.double())):
        leaf = logits.clone().requires_grad_()
        with passes.using(path):
            losses = function(leaf, targets, 7.0)
            (losses * weights.to(losses)).sum().backward()
        found.append((losses.double(), leaf.grad.double()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=2e-6, atol=2e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-6)
    spoiled = given.clone()
    spoiled[1, 1, 3] = float("nan")
    assert softcap_losses(spoiled, targets, 7.0).isnan().flatten().nonzero().flatten().tolist() == [4]
    with pytest.raises(ValueError, match=r"targets is \(4, 3\); it must be \(4, 2\)"):
        softcap_losses(given[:, :2], targets, 7.0)
