"""What a run may be: refused values say what would be right, and recipes say what they are."""

import dataclasses
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import top_models

from golf_fast.config import CompressConfig, DataConfig, ModelConfig, RunConfig, ScoreConfig, TrainConfig
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES, choose

NAN = float("nan")
STAGES = {
    "model": ModelConfig,
    "data": DataConfig,
    "train": TrainConfig,
    "compress": CompressConfig,
    "score": ScoreConfig,
}

FIRST_FIELDS = {
    "model": """
        vocab_size dim layers heads kv_heads mlp_mult tied_embeddings rope_base rope_bf16_frequencies
        logit_softcap qk_gain_init embedding_init_std bigram_buckets bigram_dim backout backout_lambda_init
        backout_layer
    """,
    "data": """
        source text shards tokenizer built val_fraction
    """,
    "train": """
        max_seconds max_steps warmdown_steps warmup_steps batch_tokens micro_batches seq_len matrix_lr
        embed_lr head_lr tied_embed_lr scalar_lr muon_momentum muon_momentum_start muon_momentum_warmup_steps
        muon_iterations muon_weight_decay beta1 beta2 adam_eps weight_decay grad_clip ema ema_decay
        ema_start_step swa swa_start_factor swa_every val_every val_batch_tokens log_every compute_dtype
        embedding_dtype compile replay_schedule
    """,
    "compress": """
        prune_quantile prune_min_elements fp16_max_elements fp16_keep mlp_bits attention_bits bigram_bits
        embedding_bits quantizer clip_sigma scale_mantissa_bits calibration_tokens calibration_seconds
        low_rank low_rank_tensors report_tokens target_bytes codec zstd_level
    """,
    "score": """
        window stride batch_windows ttt ttt_lr ttt_schedule ttt_momentum ttt_epochs ttt_chunk_tokens
        ttt_batch_rows ttt_freeze_blocks ttt_grad_clip compile allow_illegal
    """,
}
"""Fields of every configuration that was ever written to a file."""


@pytest.mark.parametrize(
    ("stage", "values", "named"),
    [
        ("model", {"dim": 0}, "model.dim is 0"),
        ("model", {"window": (-1,)}, "model.window is (-1,): it must be 0 or more for each"),
        ("model", {"window": ()}, "model.window is (): it must be one number for all blocks, or 10, one for each"),
        ("model", {"layers": 2, "window": (8, 8, 0)}, "model.window is (8, 8, 0)"),
        ("model", {"vocab_size": 65537}, "65536"),
        ("model", {"negative_slope": 1.0}, "model.negative_slope is 1.0"),
        ("model", {"smear": "before_norm", "smear_window": 513}, "model.smear_window is 513: it must be at most 512"),
        ("model", {"smear_window": 0}, "model.smear_window is 0"),
        ("model", {"smear_bos": 1024}, "model.smear_bos is 1024: it must be -1 or a token"),
        ("model", {"rope_dims": 66}, "model.rope_dims is 66"),
        ("model", {"rope_dims": 15}, "model.rope_dims is 15: it must be even"),
        ("model", {"xsa_layers": 11}, "model.xsa_layers is 11: it must be 0 to 10"),
        ("model", {"attention_gate": True, "attention_gate_window": 513}, "model.attention_gate_window is 513"),
        ("model", {"loops": 65}, "model.loops is 65"),
        ("model", {"loops": 1, "loop_end": 10}, "model.loop_end is 10: it must be a block"),
        ("model", {"loops": 1, "loop_start": 6}, "model.loop_start is 6: it must be a block, at most loop_end = 5"),
        ("model", {"lanes_from": 10}, "model.lanes_from is 10: it must be 0 or a block"),
        ("model", {"lanes_from": 5}, "model.lanes_from is 5: it must be 0, or a block from 6 on"),
        ("model", {"lanes_from": 4, "backout": False}, "model.lanes_from is 4: it must be 0, or a block from 5 on"),
        (
            "model",
            {"lanes_from": 6, "loops": 1, "loop_end": 7},
            "model.lanes_from is 6: it must be 0, or a block",
        ),
        ("model", {"heads": 7}, "model.heads is 7: it must be a divisor of model.dim = 512"),
        ("model", {"dim": 24, "heads": 8}, "model.dim / model.heads is 3: it must be even"),
        ("model", {"kv_heads": 3}, "model.kv_heads is 3"),
        ("model", {"mlp_mult": 0.001}, "model.mlp_mult is 0.001"),
        ("model", {"mlp_mult": NAN}, "model.mlp_mult is nan"),
        ("model", {"bigram_buckets": 1}, "model.bigram_buckets is 1"),
        ("model", {"bigram_buckets": -1}, "model.bigram_buckets is -1"),
        ("model", {"backout_layer": 10}, "model.backout_layer is 10"),
        ("model", {"backout_layer": -2}, "model.backout_layer is -2"),
        ("model", {"layers": 1025}, "model.layers is 1025: it must be a finite number, at most 1024"),
        ("model", {"logit_softcap": 1e308}, "model.logit_softcap is 1e+308"),
        ("model", {"qk_gain_init": NAN}, "model.qk_gain_init is nan"),
        ("score", {"ttt_epochs": 10**9}, "score.ttt_epochs is 1000000000: it must be a finite number, at most 1000"),
        ("score", {"window": 65537, "ttt_chunk_tokens": 65537}, "score.window is 65537"),
        ("score", {"batch_windows": 2049}, "score.window * score.batch_windows is 4196352: it must be at most 4194304"),
        ("train", {"val_batch_tokens": 4194305}, "train.val_batch_tokens is 4194305: it must be at most 4194304"),
        ("train", {"max_steps": 2**31}, "train.max_steps is 2147483648"),
        ("data", {"val_fraction": 0.0}, "data.val_fraction is 0.0"),
        ("data", {"val_fraction": 1.0}, "data.val_fraction is 1.0"),
        ("data", {"source": "text"}, "data.text"),
        ("train", {"max_steps": 0}, "train.max_steps is 0"),
        ("train", {"max_seconds": -1.0}, "train.max_seconds is -1.0"),
        ("train", {"matrix_lr": NAN}, "train.matrix_lr is nan"),
        ("train", {"beta2": 1.0}, "train.beta2 is 1.0"),
        ("train", {"ema_decay": -0.1}, "train.ema_decay is -0.1"),
        ("train", {"batch_tokens": 786431}, "= 2048 * 8 = 16384"),
        ("train", {"swa_every": 0}, "train.swa_every is 0"),
        ("compress", {"prune_quantile": 1.0}, "compress.prune_quantile is 1.0"),
        ("compress", {"zstd_level": 23}, "compress.zstd_level is 23"),
        ("compress", {"fp16_max_elements": -1}, "compress.fp16_max_elements is -1"),
        ("score", {"stride": 0}, "score.stride is 0"),
        ("score", {"stride": 2049}, "score.stride is 2049: it must be at most score.window = 2048"),
        ("score", {"ttt_chunk_tokens": 2047}, "score.ttt_chunk_tokens is 2047"),
        ("score", {"ttt_momentum": 1.0}, "score.ttt_momentum is 1.0"),
    ],
)
def test_refusals_name_the_field_and_the_value(stage: str, values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=re.escape(named)) as raised:
        STAGES[stage](**values)
    assert "it must be" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("model", {"bigram_buckets": 0}),
        ("model", {"backout_layer": 9}),
        ("model", {"vocab_size": 65536}),
        ("train", {"max_seconds": 0.0, "warmdown_steps": 0, "warmup_steps": 0, "grad_clip": 0.0}),
        ("train", {"batch_tokens": 16384}),
        ("compress", {"prune_quantile": 0.0, "fp16_keep": ()}),
        ("score", {"stride": 2048, "ttt_chunk_tokens": 2048}),
    ],
)
def test_the_limits_themselves_are_allowed(stage: str, values: dict[str, Any]) -> None:
    STAGES[stage](**values)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 10**30])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(InputError, match=f"seed is {seed}: it must be of at most 64 bits"):
        RunConfig(seed=seed)
    for last in (2**64 - 1, -(2**63)):
        torch.Generator().manual_seed(RunConfig(seed=last).seed)


@pytest.mark.parametrize("run_id", ["a/b", "..", "/a", "a\nb", "\x1b[2J", "\0"])
def test_a_run_id_is_a_plain_name(run_id: str) -> None:
    with pytest.raises(InputError, match="run_id"):
        RunConfig(run_id=run_id)


def test_derived_sizes_of_the_seed() -> None:
    model = ModelConfig()
    assert (model.head_dim, model.kv_dim, model.hidden, model.backout_block) == (64, 256, 1536, 5)
    assert replace(model, backout_layer=0).backout_block == 0
    assert replace(model, mlp_mult=2.999).hidden == 1535


def test_recipes_carry_their_name_and_one_line() -> None:
    assert list(RECIPES) == [
        "tiny",
        "base",
        "seed",
        "seed_as_published",
        "seed_windowed",
        "best",
        "top_1855",
        "top",
        "tiny_top",
    ]
    for name, make in RECIPES.items():
        assert make().recipe == name
        assert make() == make()
        assert make.__doc__
        assert make.__doc__.strip()


def test_which_recipes_are_legal() -> None:
    violations = {name: make().score.violations for name, make in RECIPES.items()}
    assert [name for name, broken in violations.items() if broken] == ["seed_as_published"]
    assert violations["seed_as_published"] == ["V1"]


def test_the_top_is_the_published_model_and_tiny_top_has_all_of_its_mechanisms() -> None:
    published = RECIPES["top_1855"]()
    assert replace(published.model, separate_documents=False) == top_models.TOP
    assert RECIPES["top"]().model == published.model
    plain, tiny = ModelConfig(), RECIPES["tiny_top"]()
    own = {"vocab_size", "layers", "mlp_mult", "qk_gain_init", "bigram_buckets"}
    for field in dataclasses.fields(ModelConfig):
        if field.name not in own and getattr(published.model, field.name) != getattr(plain, field.name):
            assert getattr(tiny.model, field.name) != getattr(plain, field.name), field.name
    assert (tiny.model.xsa_layers, published.model.xsa_layers) == (tiny.model.layers, published.model.layers)
    assert tiny.train.loop_at == published.train.loop_at == 0.35
    assert tiny.data.case_ops


def test_tiny_trains_as_the_seed_and_compresses_as_best() -> None:
    tiny = RECIPES["tiny"]()
    assert 1 < tiny.model.kv_heads < tiny.model.heads
    assert tiny.model.bigram_buckets > 0
    assert tiny.model.backout
    assert tiny.model.tied_embeddings
    assert tiny.model.layers >= 2
    assert tiny.train.ema or tiny.train.swa
    best = RECIPES["best"]().compress
    for name in ("quantizer", "codec", "mlp_bits", "prune_quantile", "fp16_keep", "scale_mantissa_bits"):
        assert getattr(tiny.compress, name) == getattr(best, name)
    assert tiny.model.dim * tiny.model.kv_dim > tiny.compress.fp16_max_elements
    assert tiny.score.ttt == "documents"
    assert tiny.score.stride < tiny.score.window


def test_the_seed_runs_by_itself_where_a_gpu_and_all_shards_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shards = DataConfig().shards
    shards.mkdir(parents=True)
    (shards / "fineweb_train_000000.bin").touch()
    assert choose(has_gpu=True) == ("tiny", f"there are no FineWeb shards in {shards}")
    (shards / "fineweb_val_000000.bin").touch()
    assert choose(has_gpu=True)[0] == "seed"
    assert choose(has_gpu=False) == ("tiny", "torch sees no GPU")


def test_as_dict_is_plain_and_whole() -> None:
    held = RunConfig(data=DataConfig(text=Path("some"), source="text")).as_dict()
    assert json.loads(json.dumps(held)) == held
    assert held["data"]["text"] == "some"
    assert held["compress"]["fp16_keep"] == ["tok_emb", "blocks.8.attn.c_k"]
    for stage, made in STAGES.items():
        assert list(held[stage]) == [field.name for field in dataclasses.fields(made)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_field_that_earlier_files_lack_is_marked(stage: str) -> None:
    """An unmarked field that is added makes every earlier artifact or run directory unreadable: mark it `later`."""
    unmarked = {field.name for field in dataclasses.fields(STAGES[stage]) if not field.metadata.get("later")}
    assert unmarked == set(FIRST_FIELDS[stage].split())


def test_importing_the_configuration_imports_no_stage_and_nothing_heavy() -> None:
    program = (
        "import sys, golf_fast.recipes;"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'tyro', 'matplotlib', 'numpy')"
        " or m.startswith('golf_fast.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours = ["errors", "checks", "compress_config", "model_config", "score_config", "train_config", "config", "recipes"]
    assert done.stdout.strip() == str([f"golf_fast.{name}" for name in ours])


@pytest.mark.parametrize("score", [{"ttt": "chunked"}, {"ttt": "held_out"}, {"ttt": "off", "streaming": True}])
def test_a_model_that_keeps_documents_separate_is_scored_by_documents(score: dict[str, object]) -> None:
    model = ModelConfig(separate_documents=True, window=(64,))
    for ttt in ("off", "documents", "phased"):
        RunConfig(model=model, score=ScoreConfig(ttt=ttt))  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"score\.ttt is .* it must be one of off, documents, phased where model\.separate"
    ):
        RunConfig(model=model, score=ScoreConfig(**score))  # type: ignore[arg-type]
