"""Scoring without adapting: every token once, in the right context, and the sums that come of it."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.small_scoring import Tables, score, small_config, small_gpt, some_bytes, some_tokens
from torch import Tensor

from golf_fast.data import Validation
from golf_fast.score import Ledger, score_tokens


def one_by_one(model: Tables, tokens: npt.NDArray[np.uint16], window: int, stride: int) -> list[float]:
    """Each target's loss from a model call of its own, in the first window that reaches it."""
    losses = []
    for target in range(len(tokens) - 1):
        start = 0
        while target >= start + window:
            start += stride
        row = torch.from_numpy(tokens[start : target + 2].astype(np.int64))[None]
        losses.append(model.token_losses(row[:, :-1], row[:, 1:])[0, -1].item())
    return losses


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (6, 4), (7, 3), (8, 2), (9, 9), (16, 5)])
@pytest.mark.parametrize("count", [2, 3, 7, 8, 9, 10, 17, 40, 58])
def test_losses_are_those_of_one_call_for_each_token(count: int, window: int, stride: int) -> None:
    tokens = some_tokens(count)
    config = small_config(ttt="off", window=window, stride=stride)
    with torch.no_grad():
        expected = one_by_one(Tables(), tokens, window, stride)
    np.testing.assert_allclose(score(Tables(), tokens, config).losses, expected, rtol=1e-6)


@pytest.mark.parametrize("ttt", ["off", "chunked"])
@pytest.mark.parametrize("count", [2, 12, 13, 14, 38, 39, 75, 100, 149])
def test_each_token_is_scored_exactly_once(count: int, ttt: str) -> None:
    """The ids are all different, so a target tells which position it came from."""
    seen: list[int] = []

    class Spy(Tables):
        def token_losses(
            self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0
        ) -> Tensor:
            if not torch.is_grad_enabled():
                seen.extend(targets[:, first:].flatten().tolist())
            return super().token_losses(tokens, targets, documents, first)

    tokens = np.arange(1, count + 1, dtype=np.uint16)  # 0 is padding
    score_tokens(Spy(count + 1), Validation.counted(tokens, some_bytes(count + 1)), small_config(ttt=ttt))  # type: ignore[arg-type]
    assert [target for target in seen if target] == list(range(2, count + 1))


def test_only_the_rows_to_be_scored_are_computed() -> None:
    calls: list[tuple[int, int, int]] = []

    class Spy(Tables):
        def token_losses(
            self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0
        ) -> Tensor:
            calls.append((*tokens.shape, first))
            return super().token_losses(tokens, targets, documents, first)

    score(Spy(), some_tokens(12 + 5 * 6 + 2 + 1), small_config(ttt="off"))
    assert calls == [(1, 12, 0), (3, 12, 7), (3, 12, 7), (1, 12, 7)]


def test_sums_bytes_and_bits_follow_from_the_losses() -> None:
    tokens, lengths = some_tokens(90), some_bytes()
    result = score(small_gpt(), tokens, small_config(ttt="off"))
    expected_bytes = 0
    for before, target in itertools.pairwise(tokens):
        expected_bytes += int(lengths.base[target])
        expected_bytes += bool(lengths.leading_space[target]) and not lengths.boundary[before]
    assert result.losses.dtype == np.float32
    assert result.losses.shape == (89,)
    assert result.tokens == 89
    assert result.bytes == expected_bytes == lengths.count(tokens[:-1], tokens[1:]).sum()
    assert result.nats == pytest.approx(math.fsum(result.losses.tolist()), rel=1e-14)
    assert result.bpb == pytest.approx(result.nats / 89 / math.log(2) * 89 / expected_bytes)
    assert (result.legal, result.violations, result.track) == (True, [], "A")


def test_large_ids_keep_their_sign() -> None:
    """Tokens wait on the device in 16 signed bits."""
    tokens = np.array([65535, 3, 40000, 32768, 32767, 0], np.uint16)
    seen: list[list[int]] = []

    class Spy(Tables):
        def token_losses(
            self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0
        ) -> Tensor:
            seen.extend([tokens[0].tolist(), targets[0].tolist()])
            return torch.ones(tokens.shape)

    score_tokens(Spy(), Validation.counted(tokens, some_bytes(65536)), small_config(ttt="off"))  # type: ignore[arg-type]
    assert seen == [tokens[:-1].tolist(), tokens[1:].tolist()]


def test_progress_ends_at_the_number_of_windows() -> None:
    for ttt in ("off", "chunked"):
        told: list[tuple[int, int]] = []
        score(Tables(), some_tokens(150), small_config(ttt=ttt), progress=lambda *now: told.append(now))  # noqa: B023
        done = [now for now, _ in told]
        assert done == sorted(set(done))
        assert told[-1] == (29, 29)


def test_a_ledger_serves_one_pass_and_names_what_it_saw() -> None:
    ledger = Ledger()
    score(Tables(), some_tokens(30), small_config(ttt="off"), ledger=ledger)
    assert ledger.complete
    with pytest.raises(AssertionError, match="its own"):
        score(Tables(), some_tokens(30), small_config(ttt="off"), ledger=ledger)
