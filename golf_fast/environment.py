"""The environment variables of the published scripts, and the fields that they set.

The table is `VARIABLES`. MATCHED_FINEWEB_REPO_ID, MATCHED_FINEWEB_REMOTE_ROOT_PREFIX and MATCHED_FINEWEB_BASE_URL are
not in it: they say where data are fetched from, which is not part of a run's configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from golf_fast.config import RunConfig
from golf_fast.errors import InputError


@dataclass(frozen=True)
class Kind:
    """How the text of a variable becomes a value.

    Attributes:
        expected: description of valid values, for error messages.
        parse: (text, the recipe's value) -> value; raises ValueError.
    """

    expected: str
    parse: Callable[[str, Any], Any]


def _finite(text: str, _: Any) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _switch(text: str, _: Any = None) -> bool:
    words = {"1": True, "true": True, "0": False, "false": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _path(text: str, _: Any) -> Path:
    if not text:
        raise ValueError(text)
    return Path(text).expanduser()


def _names(text: str, _: Any) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _protocol(text: str, protocol: str) -> str:
    """If on, keep the recipe's protocol, or select the legal one if the recipe has none."""
    if not _switch(text):
        return "off"
    return "chunked" if protocol == "off" else protocol


def _smear(text: str, smear: str) -> str:
    """If on, keep the recipe's smear, or select that of the scripts with this variable if the recipe has none."""
    if not _switch(text):
        return "off"
    return "before_norm" if smear == "off" else smear


def _lane(text: str, _: Any) -> str:
    words = {"mean": "mean", "mlp": "mlp", "attn": "attention"}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


INTEGER = Kind("a whole number", lambda text, _: int(text))
NUMBER = Kind("a finite number", _finite)
SWITCH = Kind("1 or 0", _switch)
TEXT = Kind("a text", lambda text, _: text)
PATH = Kind("a path", _path)
NAMES = Kind("names with commas between them", _names)
PROTOCOL = Kind("1 or 0", _protocol)
SMEAR = Kind("1 or 0", _smear)
LANE = Kind("mean, mlp or attn", _lane)


@dataclass(frozen=True)
class Variable:
    """An environment name, the fields of `RunConfig` (dotted) that it sets, and the kind of its value.

    Attributes:
        also: fields that get a fixed value whenever the variable is set.
    """

    name: str
    fields: tuple[str, ...]
    kind: Kind
    also: Mapping[str, str] = field(default_factory=dict)

    def settings(self, text: str, recipe: RunConfig) -> dict[str, Any]:
        """The values of dotted fields for the text of the variable.

        Raises:
            InputError: the text is not of the variable's kind.
        """
        text = text.rstrip("\r\n")  # left by a script or env file with other line ends
        try:
            values = {name: self.kind.parse(text, attrgetter(name)(recipe)) for name in self.fields}
        except ValueError:
            raise InputError(f"environment {self.name} is {text!r}: it must be {self.kind.expected}") from None
        return {**values, **self.also}


VARIABLES: tuple[Variable, ...] = (
    Variable("RUN_ID", ("run_id",), TEXT),
    Variable("SEED", ("seed",), INTEGER),
    Variable("DATA_PATH", ("data.shards",), PATH, also={"data.source": "shards"}),
    Variable("TOKENIZER_PATH", ("data.tokenizer",), PATH),
    Variable("VOCAB_SIZE", ("model.vocab_size",), INTEGER),
    Variable("NUM_LAYERS", ("model.layers",), INTEGER),
    Variable("MODEL_DIM", ("model.dim",), INTEGER),
    Variable("NUM_HEADS", ("model.heads",), INTEGER),
    Variable("NUM_KV_HEADS", ("model.kv_heads",), INTEGER),
    Variable("MLP_MULT", ("model.mlp_mult",), NUMBER),
    Variable("TIE_EMBEDDINGS", ("model.tied_embeddings",), SWITCH),
    Variable("ROPE_BASE", ("model.rope_base",), NUMBER),
    Variable("LOGIT_SOFTCAP", ("model.logit_softcap",), NUMBER),
    Variable("QK_GAIN_INIT", ("model.qk_gain_init",), NUMBER),
    Variable("TIED_EMBED_INIT_STD", ("model.embedding_init_std",), NUMBER),
    Variable("BIGRAM_VOCAB_SIZE", ("model.bigram_buckets",), INTEGER),
    Variable("BIGRAM_DIM", ("model.bigram_dim",), INTEGER),
    Variable("BACKOUT_ENABLED", ("model.backout",), SWITCH),
    Variable("BACKOUT_LAMBDA_INIT", ("model.backout_lambda_init",), NUMBER),
    Variable("BACKOUT_LAYER", ("model.backout_layer",), INTEGER),
    Variable("XSA_LAST_N", ("model.xsa_layers",), INTEGER),
    Variable("ROPE_DIMS", ("model.rope_dims",), INTEGER),
    Variable("LN_SCALE", ("model.norm_scale",), SWITCH),
    Variable("SMEAR_GATE_ENABLED", ("model.smear",), SMEAR),
    Variable("GATE_WINDOW", ("model.smear_window", "model.attention_gate_window"), INTEGER),
    Variable("SPARSE_ATTN_GATE_ENABLED", ("model.attention_gate",), SWITCH),
    Variable("SPARSE_ATTN_GATE_SCALE", ("model.attention_gate_scale",), NUMBER),
    Variable("SKIP_GATES_ENABLED", ("model.skip_gates",), SWITCH),
    Variable("NUM_LOOPS", ("model.loops",), INTEGER),
    Variable("LOOP_START", ("model.loop_start",), INTEGER),
    Variable("LOOP_END", ("model.loop_end",), INTEGER),
    Variable("ENABLE_LOOPING_AT", ("train.loop_at",), NUMBER),
    Variable("PARALLEL_START_LAYER", ("model.lanes_from",), INTEGER),
    Variable("PARALLEL_FINAL_LANE", ("model.lanes_end",), LANE),
    Variable("MAX_WALLCLOCK_SECONDS", ("train.max_seconds",), NUMBER),
    Variable("ITERATIONS", ("train.max_steps",), INTEGER),
    Variable("WARMDOWN_ITERS", ("train.warmdown_steps",), INTEGER),
    Variable("WARMUP_STEPS", ("train.warmup_steps",), INTEGER),
    Variable("TRAIN_BATCH_TOKENS", ("train.batch_tokens",), INTEGER),
    Variable("TRAIN_SEQ_LEN", ("train.seq_len", "score.window"), INTEGER),
    Variable("TRAIN_LOG_EVERY", ("train.log_every",), INTEGER),
    Variable("VAL_LOSS_EVERY", ("train.val_every",), INTEGER),
    Variable("VAL_BATCH_SIZE", ("train.val_batch_tokens",), INTEGER),
    Variable("MATRIX_LR", ("train.matrix_lr",), NUMBER),
    Variable("EMBED_LR", ("train.embed_lr",), NUMBER),
    Variable("HEAD_LR", ("train.head_lr",), NUMBER),
    Variable("TIED_EMBED_LR", ("train.tied_embed_lr",), NUMBER),
    Variable("SCALAR_LR", ("train.scalar_lr",), NUMBER),
    Variable("MUON_MOMENTUM", ("train.muon_momentum",), NUMBER),
    Variable("MUON_MOMENTUM_WARMUP_START", ("train.muon_momentum_start",), NUMBER),
    Variable("MUON_MOMENTUM_WARMUP_STEPS", ("train.muon_momentum_warmup_steps",), INTEGER),
    Variable("MUON_BACKEND_STEPS", ("train.muon_iterations",), INTEGER),
    Variable("BETA1", ("train.beta1",), NUMBER),
    Variable("BETA2", ("train.beta2",), NUMBER),
    Variable("ADAM_EPS", ("train.adam_eps",), NUMBER),
    Variable("WEIGHT_DECAY", ("train.weight_decay",), NUMBER),
    Variable("WARMDOWN_FRAC", ("train.warmdown_frac",), NUMBER),
    Variable("MIN_LR", ("train.min_lr",), NUMBER),
    Variable("MUON_ROW_NORMALIZE", ("train.muon_row_normalize",), SWITCH),
    Variable("MUON_WD", ("train.muon_weight_decay",), NUMBER),
    Variable("ADAM_WD", ("train.weight_decay",), NUMBER),
    Variable("EMBED_WD", ("train.table_weight_decay",), NUMBER),
    Variable("GRAD_CLIP_NORM", ("train.grad_clip",), NUMBER),
    Variable("EMA_ENABLED", ("train.ema",), SWITCH),
    Variable("EMA_DECAY", ("train.ema_decay",), NUMBER),
    Variable("EMA_START_STEP", ("train.ema_start_step",), INTEGER),
    Variable("SWA_ENABLED", ("train.swa",), SWITCH),
    Variable("SWA_START_FRAC", ("train.swa_start_factor",), NUMBER),
    Variable("SWA_EVERY", ("train.swa_every",), INTEGER),
    Variable("FP16_KEEP_NAME_PATTERNS", ("compress.fp16_keep",), NAMES),
    Variable("MATRIX_BITS", ("compress.mlp_bits", "compress.attention_bits"), INTEGER),
    Variable("EMBED_BITS", ("compress.embedding_bits",), INTEGER),
    Variable("MLP_CLIP_SIGMAS", ("compress.clip_sigma",), NUMBER),
    Variable("ATTN_CLIP_SIGMAS", ("compress.attention_clip_sigma",), NUMBER),
    Variable("EMBED_CLIP_SIGMAS", ("compress.embedding_clip_sigma",), NUMBER),
    Variable("LQER_RANK", ("compress.low_rank",), INTEGER),
    Variable("LQER_TOP_K", ("compress.low_rank_tensors",), INTEGER),
    Variable("LQER_ASYM_GROUP", ("compress.low_rank_group",), INTEGER),
    Variable("GPTQ_RESERVE_SECONDS", ("compress.calibration_seconds",), NUMBER),
    Variable("GATED_ATTN_QUANT_GATE", ("compress.gate_int8",), SWITCH),
    Variable("EVAL_STRIDE", ("score.stride",), INTEGER),
    Variable("EVAL_BATCH_SEQS", ("score.batch_windows",), INTEGER),
    Variable("TTT_ENABLED", ("score.ttt",), PROTOCOL),
    Variable("TTT_LR", ("score.ttt_lr",), NUMBER),
    Variable("TTT_MOMENTUM", ("score.ttt_momentum",), NUMBER),
    Variable("TTT_EPOCHS", ("score.ttt_epochs",), INTEGER),
    Variable("TTT_BATCH_SEQS", ("score.ttt_batch_rows",), INTEGER),
    Variable("TTT_CHUNK_TOKENS", ("score.ttt_chunk_tokens",), INTEGER),
    Variable("TTT_FREEZE_BLOCKS", ("score.ttt_freeze_blocks",), INTEGER),
    Variable("TTT_GRAD_CLIP", ("score.ttt_grad_clip",), NUMBER),
    Variable("TTT_LORA_RANK", ("score.documents.rank",), INTEGER),
    Variable("TTT_LORA_ALPHA", ("score.documents.alpha",), NUMBER),
    Variable("TTT_LORA_LR", ("score.documents.lr",), NUMBER),
    Variable("TTT_BETA1", ("score.documents.beta1",), NUMBER),
    Variable("TTT_BETA2", ("score.documents.beta2",), NUMBER),
    Variable("TTT_WEIGHT_DECAY", ("score.documents.weight_decay",), NUMBER),
    Variable("TTT_CHUNK_SIZE", ("score.documents.chunk_tokens",), INTEGER),
    Variable("TTT_EVAL_SEQ_LEN", ("score.documents.context",), INTEGER),
    Variable("TTT_BATCH_SIZE", ("score.documents.batch",), INTEGER),
    Variable("TTT_K_LORA", ("score.documents.k",), SWITCH),
    Variable("TTT_O_LORA", ("score.documents.o",), SWITCH),
    Variable("TTT_MLP_LORA", ("score.documents.mlp",), SWITCH),
    Variable("PHASED_TTT_PREFIX_DOCS", ("score.phased.documents",), INTEGER),
    Variable("PHASED_TTT_NUM_PHASES", ("score.phased.phases",), INTEGER),
    Variable("GLOBAL_TTT_LR", ("score.phased.lr",), NUMBER),
    Variable("GLOBAL_TTT_MOMENTUM", ("score.phased.momentum",), NUMBER),
    Variable("GLOBAL_TTT_EPOCHS", ("score.phased.epochs",), INTEGER),
    Variable("GLOBAL_TTT_CHUNK_TOKENS", ("score.phased.chunk_tokens",), INTEGER),
    Variable("GLOBAL_TTT_BATCH_SEQS", ("score.phased.batch_rows",), INTEGER),
    Variable("GLOBAL_TTT_GRAD_CLIP", ("score.phased.grad_clip",), NUMBER),
)


@dataclass(frozen=True)
class Setting:
    """A field's value from the environment, with the variable that gave it."""

    value: Any
    variable: str


def settings(environ: Mapping[str, str], recipe: RunConfig) -> dict[str, Setting]:
    """The settings that the environment makes, by dotted field.

    Raises:
        InputError: a value is not of its variable's kind.
    """
    return {
        name: Setting(value, variable.name)
        for variable in VARIABLES
        if variable.name in environ
        for name, value in variable.settings(environ[variable.name], recipe).items()
    }
