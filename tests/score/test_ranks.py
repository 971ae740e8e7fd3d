"""Several ranks score what one does. Each number of ranks is started once; the tests read what they left."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_scoring import recorded, score, small_config, small_gpt, some_tokens

from golf_fast.config import ScoreConfig
from golf_fast.data import BOS_ID
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.score import Ledger
from golf_fast.score.ledger import read
from golf_fast.score.ttt import documents
from golf_fast.score.verdict import Facts, judge
from golf_fast.score_config import DocumentsConfig, HeldOutConfig, PhasedConfig

TOKENS = some_tokens(37 * 4 + 20)
TRAINING = some_tokens(100, seed=3)
TOKENS[::15] = BOS_ID  # 12 documents, as many as fill the batches of four ranks
DOCUMENTS = DocumentsConfig(rank=3, lr=0.02, chunk_tokens=5, context=12, batch=2)
WEIGHTS = {
    "off": 1,
    "held_out": 1,
    "streaming": 1,
    "apart": 1,
    "chunked": 5,
    "one_step": 5,
    "documents": 1,
    "phased": 3,
}
"""How many different weights score in a pass."""
CONFIGS = {
    "off": small_config(ttt="off"),
    "held_out": small_config(ttt="held_out", held_out=HeldOutConfig(tokens=100, lr=0.1, batch_rows=3)),
    "streaming": small_config(ttt="off", streaming=True),
    "apart": small_config(ttt="off", documents=DOCUMENTS),
    # Three rows a chunk in steps of two: with four ranks some have no row in a step, and with two the shares differ.
    "chunked": small_config(ttt_freeze_blocks=1, ttt_lr=0.1, ttt_epochs=2),
    "documents": small_config(ttt="documents", documents=DOCUMENTS),
    "phased": small_config(
        ttt="phased",
        documents=DOCUMENTS,
        phased=PhasedConfig(documents=5, phases=2, chunk_tokens=24, batch_rows=2, lr=0.1),
    ),
    "one_step": small_config(ttt_batch_rows=50, ttt_lr=0.1, ttt_epochs=2),
}


def model_of(name: str) -> GPT:
    model = small_gpt(layers=2)
    if name in ("streaming", "apart"):
        changes = {"window": (6,)} if name == "streaming" else {"separate_documents": True}
        other = GPT(replace(model.config, **changes))
        other.load_state_dict(model.state_dict())
        return other
    return model


def _work(folder: Path) -> None:
    ranks = Ranks.from_environment("cpu")
    documents._STRETCH = 1  # the ranks agree several times
    for name, config in CONFIGS.items():
        path = folder / f"{ranks.world_size}-{name}.jsonl"
        ledger = Ledger(path if ranks.main else None)
        result = score(model_of(name), TOKENS, config, ranks=ranks, ledger=ledger, training=TRAINING)
        np.save(folder / f"{ranks.world_size}-{ranks.rank}-{name}.npy", result.losses)
    published = small_config(ttt="train_then_score", allow_illegal=True, ttt_batch_rows=4 // ranks.world_size)
    result = score(small_gpt(layers=2), TOKENS, published, ranks=ranks)
    assert result.violations == ["V1"]
    np.save(folder / f"{ranks.world_size}-{ranks.rank}-published.npy", result.losses)
    with pytest.raises(InputError) as raised:
        score(small_gpt(layers=2), TOKENS, small_config(ttt_lr=1e9, ttt_grad_clip=0.0), ranks=ranks)
    (folder / f"{ranks.world_size}-{ranks.rank}-diverged.txt").write_text(str(raised.value))
    ranks.close()


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, run_ranks: Callable[..., None]) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    for world_size in (2, 4):
        run_ranks(__file__, world_size, folder)
    return folder


@pytest.mark.parametrize("world_size", [2, 4])
def test_every_rank_ends_where_adapting_leaves_no_number(left: Path, world_size: int) -> None:
    said = {(left / f"{world_size}-{rank}-diverged.txt").read_text() for rank in range(world_size)}
    assert len(said) == 1
    assert "is nan, in chunk 1 of 5: adapting" in said.pop()


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_several_ranks_score_what_one_does(left: Path, name: str, world_size: int, tmp_path: Path) -> None:
    config: ScoreConfig = CONFIGS[name]
    alone = score(model_of(name), TOKENS, config, ledger=Ledger(tmp_path / "alone.jsonl"), training=TRAINING)
    losses = [np.load(left / f"{world_size}-{rank}-{name}.npy") for rank in range(world_size)]
    np.testing.assert_allclose(losses[0], alone.losses, rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(losses[0], other) for other in losses[1:])
    assert abs(float(losses[0].sum(dtype=np.float64)) - alone.nats) <= 1e-6 * alone.nats
    ledgers = [left / f"{world_size}-{name}.jsonl", tmp_path / "alone.jsonl"]
    assert recorded(ledgers[0]) == recorded(ledgers[1])
    verdicts = [judge(read(path), Facts(finished=True)) for path in ledgers]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].legal
    hashes = [{event["weights"] for event in read(path) if event["event"] == "score"} for path in ledgers]
    assert len(hashes[0]) == len(hashes[1]) == WEIGHTS[name]


def test_ranks_adapt_at_all(left: Path) -> None:
    """The agreement above means something only if training moved the losses by far more than the tolerance."""
    off = np.load(left / "2-0-off.npy")
    for name in ("chunked", "one_step", "documents", "phased", "held_out", "published"):
        assert np.abs(np.load(left / f"2-0-{name}.npy") - off).max() > 0.01


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_published_protocol_is_one_model_on_all_ranks(left: Path, world_size: int) -> None:
    losses = [np.load(left / f"{world_size}-{rank}-published.npy") for rank in range(world_size)]
    assert np.isfinite(losses[0]).all()
    assert all(np.array_equal(losses[0], other) for other in losses[1:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    _work(Path(sys.argv[1]))
