"""Test-time training: it computes what the protocol says, helps only later tokens, and leaves nothing behind."""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.small_scoring import Tables, recorded, score, small_config, small_gpt, some_bytes, some_tokens
from torch import Tensor
from torch.nn import functional as F

from golf_fast.config import ScoreConfig
from golf_fast.data import Validation
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.score import Ledger, score_tokens
from golf_fast.score.rows import TokenRows, TrainingRows
from golf_fast.score.ttt import weights
from golf_fast.score.ttt.weights import Descent, WeightTrainer, rate

CHUNKS = 5
TOKENS = some_tokens(37 * 4 + 20)  # targets: four chunks of 37 and one of 19, no chunk a multiple of a row


def by_hand(tokens: npt.NDArray[np.uint16], c: ScoreConfig) -> tuple[list[float], int]:
    """The chunked protocol as a plain float64 loop over one model: the losses, and how many updates there were."""
    model = Tables(dtype=torch.float64)
    parameters = list(model.parameters())
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    ids = torch.from_numpy(tokens.astype(np.int64))
    targets = len(ids) - 1
    chunks = math.ceil(targets / c.ttt_chunk_tokens)
    losses: list[float] = []
    window_start = updates = 0
    for chunk in range(chunks):
        start, stop = chunk * c.ttt_chunk_tokens, min((chunk + 1) * c.ttt_chunk_tokens, targets)
        while len(losses) < stop:
            end = min(window_start + c.window, targets)
            logits = model.logits(ids[None, window_start:end])[0].detach()
            own = slice(len(losses) - window_start, None)
            losses += F.cross_entropy(logits[own], ids[len(losses) + 1 : end + 1], reduction="none").tolist()
            window_start += c.stride
        if chunk == chunks - 1:
            break
        rows = [start + c.window * row for row in range((stop - start) // c.window)]
        lr = c.ttt_lr * (1 + math.cos(math.pi * chunk / (chunks - 1))) / 2
        for _ in range(c.ttt_epochs):
            for first in range(0, len(rows), c.ttt_batch_rows):
                batch = torch.stack([ids[row : row + c.window + 1] for row in rows[first : first + c.ttt_batch_rows]])
                loss = F.cross_entropy(model.logits(batch[:, :-1]).transpose(1, 2), batch[:, 1:])
                gradients = torch.autograd.grad(loss, parameters)
                norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
                factor = min(1, c.ttt_grad_clip / (norm + 1e-6)) if c.ttt_grad_clip else 1
                updates += 1
                for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
                    velocity.mul_(c.ttt_momentum).add_(factor * gradient)
                    parameter.data -= lr * velocity
    return losses, updates


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ttt_grad_clip": 0.0},
        {"ttt_grad_clip": 0.1},
        {"ttt_momentum": 0.0, "ttt_epochs": 1},
        {"ttt_batch_rows": 50},
        {"stride": 12},
        {"ttt_chunk_tokens": 12},
    ],
)
def test_losses_are_those_of_the_protocol_done_by_hand(changes: dict[str, float]) -> None:
    config = small_config(**changes)
    expected, updates = by_hand(TOKENS, config)
    assert updates >= 4
    np.testing.assert_allclose(score(Tables(), TOKENS, config).losses, expected, rtol=2e-4, atol=2e-5)


def test_adapting_moves_what_comes_later_and_helps() -> None:
    before = score(Tables(), TOKENS, small_config(ttt="off"))
    after = score(Tables(), TOKENS, small_config())
    first_chunk = 37
    assert np.array_equal(after.losses[:first_chunk], before.losses[:first_chunk])
    assert (np.abs(after.losses[first_chunk:] - before.losses[first_chunk:]) > 1e-4).mean() > 0.9
    assert after.nats < before.nats - 5
    assert (after.legal, after.violations, after.track) == (True, [], "B")


def test_a_rate_of_zero_is_no_adapting() -> None:
    still = score(Tables(), TOKENS, small_config(ttt_lr=0.0))
    assert np.array_equal(still.losses, score(Tables(), TOKENS, small_config(ttt="off")).losses)


@pytest.mark.parametrize("position", [1, 2, 11, 12, 13, 36, 37, 38, 39, 42, 43, 74, 75, 76, 110, 148, 149, 166, 167])
def test_a_token_changes_no_loss_before_it(position: int) -> None:
    """Rule C1 for the whole scorer, bit for bit, at and beside the borders of windows and chunks."""
    changed = TOKENS.copy()
    changed[position] = (changed[position] + 9) % 40
    config = small_config(ttt_chunk_tokens=37)
    losses = [score(small_gpt(layers=2), tokens, config).losses for tokens in (TOKENS, changed)]
    assert np.array_equal(losses[0][: position - 1], losses[1][: position - 1])
    assert losses[0][position - 1] != losses[1][position - 1]


def test_a_chunk_is_trained_on_after_it_is_scored_and_the_last_one_never() -> None:
    """A model that notes every target in the order it meets them; the ids are all different."""
    scored: set[int] = set()
    trained: set[int] = set()

    class Spy(Tables):
        def token_losses(
            self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0
        ) -> Tensor:
            met = set(targets[:, first:].flatten().tolist()) - {0}
            if torch.is_grad_enabled():
                assert met <= scored, "trained on before it was scored"
                trained.update(met)
            else:
                assert not met & scored, "scored twice"
                assert not met & trained
                scored.update(met)
            return super().token_losses(tokens, targets, documents, first)

    count = len(TOKENS)
    tokens = np.arange(1, count + 1, dtype=np.uint16)
    score_tokens(Spy(count + 1), Validation.counted(tokens, some_bytes(count + 1)), small_config())  # type: ignore[arg-type]
    assert scored == set(range(2, count + 1))
    rows = [37 * chunk + 12 * row for chunk in range(CHUNKS - 1) for row in range(3)]
    assert trained == {target + 2 for row in rows for target in range(row, row + 12)}


@pytest.mark.parametrize("targets", [1, 5, 11, 12, 37, 38, 74, 75, 77, 78])
def test_a_short_end_is_scored_and_not_trained_on(targets: int, tmp_path: Path) -> None:
    """A chunk alone; a last chunk of one target; a last chunk of 1 or 3 that windows of the one before reach into."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    result = score(Tables(), TOKENS[: targets + 1], small_config(), ledger=ledger)
    assert result.tokens == targets
    events = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    trained = [event for event in events if event["event"] == "train"]
    assert len(trained) == (targets > 37) + (targets > 77)
    assert not any(event["stop"] == targets for event in trained)
    assert result.track == ("B" if trained else "A")
    assert [event["stop"] for event in events if event["event"] == "score"][-1] == targets


def test_the_ledger_holds_the_protocol(tmp_path: Path) -> None:
    score(Tables(), TOKENS[:100], small_config(), ledger=Ledger(tmp_path / "ledger.jsonl"))
    events = recorded(tmp_path / "ledger.jsonl")
    training = {"event": "train", "window": 12, "scored": True}
    assert events == [
        {"event": "begin", "targets": 99},
        {"event": "score", "start": 0, "stop": 37},
        training | {"start": 0, "stop": 36},
        {"event": "score", "start": 37, "stop": 77},
        training | {"start": 37, "stop": 73},
        {"event": "score", "start": 77, "stop": 99},
        {"event": "end", "targets": 99, "legal": True, "violations": []},
    ]


@pytest.mark.parametrize("protocol", ["chunked", "train_then_score"])
def test_the_weights_are_restored_exactly(protocol: str) -> None:
    model = small_gpt()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    config = small_config(ttt=protocol, allow_illegal=True)
    first = score(model, TOKENS, config)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None
    assert np.array_equal(score(model, TOKENS, config).losses, first.losses)


def test_the_weights_are_restored_after_an_error() -> None:
    class Failing(Tables):
        def token_losses(
            self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, first: int = 0
        ) -> Tensor:
            if not torch.equal(self.after, start):
                raise RuntimeError("the weights have moved")
            return super().token_losses(tokens, targets, documents, first)

    start = Tables().after.detach().clone()
    model = Failing()
    with pytest.raises(RuntimeError, match="have moved"):
        score(model, TOKENS, small_config())
    assert torch.equal(model.after, start)


def _some_rows() -> TrainingRows:
    ledger = Ledger()
    ledger.begin(TokenRows(TOKENS, torch.device("cpu")))
    ledger.scored(0, 72)
    return ledger.rows_for_training(0, 6, 12)


@pytest.mark.parametrize("blocks", [0, 1, 2, 4])
def test_frozen_blocks_do_not_move_and_all_else_does(blocks: int) -> None:
    model = small_gpt(layers=4)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    descent = Descent.of(small_config(ttt_freeze_blocks=blocks))
    WeightTrainer(model, descent, Ranks.single()).train(_some_rows(), 0.5, 3)
    for name, parameter in model.named_parameters():
        moved = (parameter != before[name]).flatten(1).any(1) if parameter.ndim > 1 else parameter != before[name]
        if name in ("qo_bank", "kv_bank"):
            assert moved.tolist() == 2 * ([False] * blocks + [True] * (4 - blocks)), name
        elif name in ("mlp_up", "mlp_down", "q_gain", "attn_scale", "mlp_scale", "resid_mix"):
            assert moved.tolist() == [False] * blocks + [True] * (4 - blocks), name
        else:
            assert moved.any(), name


def test_frozen_gradients_do_not_count_in_the_clip() -> None:
    """With plain SGD and a clip that binds, what moves moves by lr * clip in all."""
    model = small_gpt(layers=4)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    config = small_config(
        ttt_freeze_blocks=3, ttt_grad_clip=1e-3, ttt_lr=1.0, ttt_epochs=1, ttt_batch_rows=6, ttt_momentum=0.0
    )
    WeightTrainer(model, Descent.of(config), Ranks.single()).train(_some_rows(), 1.0, 1)
    moved = sum(
        float((a.detach() - b).double().square().sum()) for a, b in zip(model.parameters(), before, strict=True)
    )
    assert math.sqrt(moved) == pytest.approx(1e-3, rel=0.01)


def test_more_frozen_blocks_than_there_are_is_named() -> None:
    with pytest.raises(InputError, match=r"score\.ttt_freeze_blocks is 5: the model has 4 blocks"):
        score(small_gpt(layers=4), TOKENS, small_config(ttt_freeze_blocks=5))


def test_a_step_in_pieces_is_the_step_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(ttt_batch_rows=3)
    whole = score(Tables(), TOKENS, config)
    monkeypatch.setitem(weights._MICRO_BATCH_TOKENS, "cpu", 2 * 12)
    np.testing.assert_allclose(score(Tables(), TOKENS, config).losses, whole.losses, rtol=1e-5, atol=1e-6)


def test_the_rate_falls_by_half_a_cosine() -> None:
    assert [rate(0.002, "cosine", chunk, 5) for chunk in range(5)] == pytest.approx(
        [0.002, 0.001 * (1 + 0.5**0.5), 0.001, 0.001 * (1 - 0.5**0.5), 0]
    )
    assert rate(0.002, "cosine", 0, 1) == 0.002
    assert rate(0.002, "constant", 3, 5) == 0.002


def test_the_published_protocol_is_refused_unless_asked_for() -> None:
    with pytest.raises(InputError, match=r"train_then_score: .*V1.*--score\.allow-illegal"):
        score(Tables(), TOKENS, small_config(ttt="train_then_score"))


def test_the_published_protocol_is_labelled_by_what_it_did(tmp_path: Path) -> None:
    config = small_config(ttt="train_then_score", allow_illegal=True)
    result = score(Tables(), TOKENS, config, ledger=Ledger(tmp_path / "ledger.jsonl"))
    assert (result.legal, result.violations, result.track) == (False, ["V1"], "B")
    events = recorded(tmp_path / "ledger.jsonl")
    assert [event["event"] for event in events] == ["begin", "train", "score", "end"]
    assert events[1] == {"event": "train", "start": 0, "stop": 156, "window": 12, "scored": False}
    assert events[-1]["legal"] is False
    assert result.nats < score(Tables(), TOKENS, small_config()).nats, "it had seen what it scored"


def test_allowing_what_is_illegal_does_not_make_a_legal_pass_illegal() -> None:
    assert score(Tables(), TOKENS, small_config(allow_illegal=True)).legal


def test_the_published_protocol_scores_what_is_shorter_than_a_row() -> None:
    result = score(Tables(), TOKENS[:9], small_config(ttt="train_then_score", allow_illegal=True))
    assert result.tokens == 8


@pytest.mark.parametrize("protocol", ["chunked", "train_then_score"])
def test_adapting_that_leaves_no_number_is_an_error_and_says_where(tmp_path: Path, protocol: str) -> None:
    model = small_gpt()
    before = [parameter.clone() for parameter in model.parameters()]
    config = small_config(ttt=protocol, ttt_lr=1e9, ttt_grad_clip=0.0, ttt_schedule="constant", allow_illegal=True)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(InputError) as raised:
        score(model, TOKENS, config, ledger=ledger)
    message = str(raised.value)
    assert "is nan" in message
    assert "score.ttt_lr 1e+09" in message
    if protocol == "chunked":  # the first windows of a chunk are scored before anything was learned from it
        assert "the loss of validation target 37 of 167 is nan, in chunk 1 of 5: " in message
    assert all(map(torch.equal, model.parameters(), before))
    events = [json.loads(line)["event"] for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert events[0] == "begin"
    assert "end" not in events


def test_a_model_without_a_number_has_no_score() -> None:
    model = small_gpt()
    with torch.no_grad():
        model.tok_emb[3, 2] = math.inf
    with pytest.raises(InputError, match=r"target \d+ of 167 is nan: the model's weights give no number there"):
        score(model, TOKENS, small_config(ttt="off"))
