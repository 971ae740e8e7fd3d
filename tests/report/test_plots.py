"""What the plots show, in numbers."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from golf_fast.report import plots


@pytest.mark.parametrize("count", [1, 599, 600, 601, 6709])
def test_thinning_keeps_the_mean_and_the_order(count: int) -> None:
    rng = np.random.default_rng(count)
    losses = rng.normal(size=count)
    records = [{"step": step, "loss": loss} for step, loss in enumerate(losses)]
    x, y = plots._thinned(records, "step", "loss")
    assert len(x) == min(count, 600)
    assert (np.diff(x) > 0).all()
    if count <= 600:
        np.testing.assert_array_equal(y, losses)
    else:
        sizes = np.diff(np.unique(np.linspace(0, count, 601).astype(np.int64)))
        np.testing.assert_allclose((y * sizes).sum(), losses.sum())
        np.testing.assert_allclose(y[0], losses[: sizes[0]].mean())


def test_token_losses_are_summed_in_float64_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_TOKENS_AT_A_TIME", 7)
    losses = np.full(100, 1 / 3, dtype=np.float32)
    losses[3] = 2e7
    assert plots._sum(io.BytesIO(losses.tobytes()), 2, 95) == losses[2:95].sum(dtype=np.float64)


@pytest.mark.parametrize("count", [0, 1, 7, 12345])
def test_any_number_of_token_losses(tmp_path: Path, count: int) -> None:
    path = tmp_path / "token_losses"
    np.ones(count, dtype="<f4").tofile(path)
    assert plots.token_losses(path).startswith("<svg") is (count > 0)


def test_many_parts_are_a_dozen_bars() -> None:
    svg = plots.parts({f"part {index}": 1000 - index for index in range(30)})
    assert "part 10" in svg
    assert "part 11" not in svg
    assert "19 others" in svg
    assert f"{sum(1000 - index for index in range(11, 30)):,}" in svg


def test_parts_of_no_bytes() -> None:
    assert plots.parts({}) == ""
    assert plots.parts({"a": 0}).startswith("<svg")


def test_records_without_numbers_are_no_plot() -> None:
    assert plots.training([{"kind": "train", "step": 1, "loss": None}], "step") == ""
    assert plots.training([{"kind": "train", "step": 1, "loss": 2.0}], "seconds") == ""
    assert plots.training([{"kind": "train", "step": 1, "loss": 2.0}], "step").startswith("<svg")


def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "token_losses"
    path.write_bytes(np.ones(50, np.float32).tobytes())
    with path.open("rb") as file, pytest.raises(ValueError, match="token_losses: it became shorter"):
        plots._sum(file, 0, 51)


@pytest.mark.parametrize("backend", ["module://nowhere.backend", "nonsense", ""])
def test_the_caller_s_backend_does_not_matter(backend: str) -> None:
    program = (
        "import os; from golf_fast.report import plots; assert '<svg' in plots.parts({'a': 3}); "
        "print(os.environ['MPLBACKEND'])"
    )
    environ = os.environ | {"MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{backend}\n"), done.stderr
