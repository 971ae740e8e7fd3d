"""The table of environment names: every row points at real fields, and its values come through unchanged."""

import dataclasses
import re
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from helpers import top_models

from golf_fast.command_line import field_names, parse
from golf_fast.config import ModelConfig, RunConfig
from golf_fast.environment import (
    INTEGER,
    LANE,
    NAMES,
    NUMBER,
    PATH,
    PROTOCOL,
    SMEAR,
    SWITCH,
    TEXT,
    VARIABLES,
    Kind,
    settings,
)
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES

# The names with the values that the published scripts give them where they are not set.
PUBLISHED = """
DATA_PATH=./data/datasets/fineweb10B_sp1024 TOKENIZER_PATH=./data/tokenizers/fineweb_1024_bpe.model RUN_ID= SEED=42
VAL_BATCH_SIZE=524288 VAL_LOSS_EVERY=500 TRAIN_LOG_EVERY=100 ITERATIONS=20000 WARMDOWN_ITERS=3000 WARMUP_STEPS=20
TRAIN_BATCH_TOKENS=786432 TRAIN_SEQ_LEN=2048 MAX_WALLCLOCK_SECONDS=600 QK_GAIN_INIT=1.5 VOCAB_SIZE=1024 NUM_LAYERS=10
NUM_KV_HEADS=4 MODEL_DIM=512 NUM_HEADS=8 MLP_MULT=3 TIE_EMBEDDINGS=1 ROPE_BASE=10000 LOGIT_SOFTCAP=30 EMBED_LR=0.6
HEAD_LR=0.008 TIED_EMBED_LR=0.03 TIED_EMBED_INIT_STD=0.005 MATRIX_LR=0.02 SCALAR_LR=0.02 MUON_MOMENTUM=0.99
MUON_BACKEND_STEPS=5 MUON_MOMENTUM_WARMUP_START=0.92 MUON_MOMENTUM_WARMUP_STEPS=1500 BETA1=0.9 BETA2=0.95
ADAM_EPS=1e-8 GRAD_CLIP_NORM=0.3 WEIGHT_DECAY=0.04 EVAL_STRIDE=64 EVAL_BATCH_SEQS=32 BIGRAM_VOCAB_SIZE=10240
BIGRAM_DIM=128 SWA_ENABLED=0 SWA_START_FRAC=0.4 SWA_EVERY=50 EMA_ENABLED=1 EMA_DECAY=0.997 EMA_START_STEP=50
BACKOUT_ENABLED=1 BACKOUT_LAMBDA_INIT=0.2 BACKOUT_LAYER=-1 TTT_ENABLED=1 TTT_LR=0.002 TTT_MOMENTUM=0.9 TTT_EPOCHS=3
TTT_BATCH_SEQS=32 TTT_FREEZE_BLOCKS=2 TTT_GRAD_CLIP=1.0 TTT_CHUNK_TOKENS=32768
FP16_KEEP_NAME_PATTERNS=tok_emb,blocks.8.attn.c_k
"""
# Those of the later scripts with an adapter for each document, with the values of their record.
LATER = """
TTT_LORA_RANK=80 TTT_LORA_ALPHA=144 TTT_LORA_LR=1e-4 TTT_BETA1=0 TTT_BETA2=0.99 TTT_WEIGHT_DECAY=0.5 TTT_CHUNK_SIZE=48
TTT_EVAL_SEQ_LEN=2048 TTT_BATCH_SIZE=64 TTT_K_LORA=1 TTT_O_LORA=1 TTT_MLP_LORA=1 PHASED_TTT_PREFIX_DOCS=2500
PHASED_TTT_NUM_PHASES=3 GLOBAL_TTT_LR=0.001 GLOBAL_TTT_MOMENTUM=0.9 GLOBAL_TTT_EPOCHS=1 GLOBAL_TTT_CHUNK_TOKENS=32768
GLOBAL_TTT_BATCH_SEQS=32 GLOBAL_TTT_GRAD_CLIP=1
"""
# Those of the script at the top of the board for its model and training, with the values of its record.
TOP = """
VOCAB_SIZE=8192 NUM_LAYERS=11 MLP_MULT=4 QK_GAIN_INIT=5 XSA_LAST_N=11 ROPE_DIMS=16 LN_SCALE=1 SMEAR_GATE_ENABLED=1
GATE_WINDOW=12 SPARSE_ATTN_GATE_ENABLED=1 SPARSE_ATTN_GATE_SCALE=0.5 SKIP_GATES_ENABLED=1 NUM_LOOPS=2 LOOP_START=3
LOOP_END=5 ENABLE_LOOPING_AT=0.35 PARALLEL_START_LAYER=8 PARALLEL_FINAL_LANE=mean GATED_ATTN_QUANT_GATE=1
MATRIX_BITS=6 EMBED_BITS=7 MLP_CLIP_SIGMAS=11.5 ATTN_CLIP_SIGMAS=13 EMBED_CLIP_SIGMAS=14
LQER_RANK=4 LQER_TOP_K=3 LQER_ASYM_GROUP=64 GPTQ_RESERVE_SECONDS=0.5
WARMDOWN_FRAC=0.85 MIN_LR=0.1 MUON_ROW_NORMALIZE=1 MUON_WD=0.095 ADAM_WD=0.02 EMBED_WD=0.085
"""
OF_TOP = dict(entry.split("=", 1) for entry in TOP.split())
DEFAULTS = dict(entry.split("=", 1) for entry in (PUBLISHED + LATER).split())
BY_NAME = {variable.name: variable for variable in VARIABLES}


@dataclass(frozen=True)
class Sample:
    text: str
    value: Any
    wrong: str | None


# Values that no recipe has, unusual ones among them: signs, exponents, and a path that looks like a flag.
SAMPLES: dict[Kind, Sample] = {
    INTEGER: Sample("3", 3, "3.5"),
    NUMBER: Sample("2.5e-1", 0.25, "nan"),
    TEXT: Sample("a name, -- with=signs", "a name, -- with=signs", None),
    PATH: Sample("--odd folder=1/é", Path("--odd folder=1/é"), ""),
    NAMES: Sample(" lm_head, blocks.1 ,", ("lm_head", "blocks.1"), None),
    SWITCH: Sample("0", False, "yes please"),
    PROTOCOL: Sample("0", "off", "2"),
    SMEAR: Sample("0", "off", "on"),
    LANE: Sample("attn", "attention", "attention"),
}
# Fields whose sample the rest of the configuration would refuse.
FITTING = {
    "VOCAB_SIZE": ("700", 700),
    "NUM_LAYERS": ("12", 12),
    "MODEL_DIM": ("1024", 1024),
    "NUM_HEADS": ("16", 16),
    "NUM_KV_HEADS": ("2", 2),
    "TRAIN_BATCH_TOKENS": ("32768", 32768),
    "TRAIN_SEQ_LEN": ("1024", 1024),
    "TTT_EVAL_SEQ_LEN": ("2560", 2560),
    "TTT_CHUNK_TOKENS": ("65536", 65536),
    "ROPE_BASE": ("2.5e4", 25000.0),
    "ROPE_DIMS": ("16", 16),
    "MATRIX_BITS": ("7", 7),
    "EMBED_BITS": ("6", 6),
    "LQER_RANK": ("0", 0),
    "MLP_CLIP_SIGMAS": ("9.5", 9.5),
    "ATTN_CLIP_SIGMAS": ("9.5", 9.5),
    "EMBED_CLIP_SIGMAS": ("9.5", 9.5),
    "PARALLEL_START_LAYER": ("6", 6),
    "LN_SCALE": ("1", True),
    "SPARSE_ATTN_GATE_ENABLED": ("1", True),
    "SKIP_GATES_ENABLED": ("1", True),
    "GATED_ATTN_QUANT_GATE": ("1", True),
}


def from_environment(environ: dict[str, str], recipe: str = "seed") -> RunConfig:
    return parse([recipe], environ, prog="prog", default_recipe=lambda: ("seed", "")).config


def test_the_table_has_every_published_name_once() -> None:
    assert set(BY_NAME) == set(DEFAULTS) | set(OF_TOP)
    assert len(BY_NAME) == len(VARIABLES)


def test_the_published_defaults_are_the_seed() -> None:
    others = {"VAL_LOSS_EVERY", "TTT_FREEZE_BLOCKS"}
    environ = {name: text for name, text in DEFAULTS.items() if name not in others}
    recipe = RECIPES["seed"]()
    changed = {name for name, setting in settings(environ, recipe).items() if setting.value != attrgetter(name)(recipe)}
    assert changed == {"data.source"}


def test_the_names_of_the_top_make_its_model() -> None:
    """What its script has no name for, or has another default of, stands in the recipe."""
    model = ModelConfig(bigram_buckets=0, backout=False, negative_slope=0.5, smear="off")
    recipe = dataclasses.replace(RECIPES["seed"](), model=model)
    found = settings(OF_TOP, recipe)
    values = {name.removeprefix("model."): setting.value for name, setting in found.items() if "model." in name}
    assert dataclasses.replace(recipe.model, **values) == top_models.TOP
    assert found["compress.gate_int8"].value is True


def test_smear_gate_enabled_keeps_the_smear_of_the_recipe() -> None:
    assert from_environment({"SMEAR_GATE_ENABLED": "1"}).model.smear == "after_norm"
    assert from_environment({"SMEAR_GATE_ENABLED": "0"}).model.smear == "off"


@pytest.mark.parametrize("name", BY_NAME)
def test_a_variable_sets_its_fields_and_nothing_else(name: str) -> None:
    variable = BY_NAME[name]
    sample = SAMPLES[variable.kind]
    text, value = FITTING.get(name, (sample.text, sample.value))
    if name == "SWA_ENABLED":
        text, value = "1", True
    recipe, config = RECIPES["seed"](), from_environment({name: text})
    expected = {**dict.fromkeys(variable.fields, value), **variable.also}
    for field in field_names():
        assert attrgetter(field)(config) == expected.get(field, attrgetter(field)(recipe)), field
        if attrgetter(field)(recipe) is not None:
            assert type(attrgetter(field)(config)) is type(attrgetter(field)(recipe)), field


@pytest.mark.parametrize("name", [name for name in BY_NAME if SAMPLES[BY_NAME[name].kind].wrong is not None])
def test_a_wrong_value_is_one_line_with_name_value_and_what_is_right(name: str) -> None:
    wrong = SAMPLES[BY_NAME[name].kind].wrong
    assert wrong is not None
    with pytest.raises(InputError, match=re.escape(f"environment {name} is {wrong!r}: it must be ")) as raised:
        from_environment({name: wrong})
    assert "\n" not in str(raised.value)


def test_ttt_enabled_keeps_the_protocol_of_the_recipe() -> None:
    assert from_environment({"TTT_ENABLED": "1"}, "seed_as_published").score.ttt == "train_then_score"
    assert from_environment({"TTT_ENABLED": "1"}, "base").score.ttt == "chunked"
    assert from_environment({"TTT_ENABLED": "0"}, "seed_as_published").score.ttt == "off"


def test_data_path_asks_for_shards() -> None:
    assert from_environment({"DATA_PATH": "elsewhere"}).data.source == "shards"


def test_names_outside_the_table_are_ignored() -> None:
    assert from_environment({"TRAIN": "x", "seed": "x", "PATH": "/bin"}) == RECIPES["seed"]()


def test_a_home_and_a_script_s_line_end_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    environ = {"DATA_PATH": "~/shards\r", "RUN_ID": "first\r\n", "TTT_ENABLED": "1\r", "SEED": "7\r"}
    found = settings(environ, RECIPES["seed"]())
    assert found["data.shards"].value == Path("/home/me/shards")
    assert found["run_id"].value == "first"
    assert found["seed"].value == 7
