"""The techniques of a configuration, in the challenge's words."""

from __future__ import annotations

from golf_fast.config import RunConfig

_QUANTIZERS = {
    "absmax": "int5/int6 by the largest magnitude of each row",
    "sigma": "integers clipped by the spread of each row",
    "gptq": "GPTQ",
    "trellis": "trellis-coded quantization",
    "gptq_trellis": "GPTQ on a trellis",
}
_STRATEGIES = {
    "chunked": "legal score-first test-time training, chunk by chunk",
    "documents": "legal score-first LoRA test-time training, document by document",
    "phased": "legal test-time training in phases",
    "held_out": "adaptation to held-out training tokens",
    "train_then_score": "test-time training that trains before it scores: not legal",
}


def techniques(config: RunConfig) -> list[str]:
    """What makes a run what it is, a few words each, in the order in which it happens."""
    model, train, compress, score = config.model, config.train, config.compress, config.score
    found = {
        f"{model.layers} layers of width {model.dim}, {model.heads} heads on {model.kv_heads} key/value heads": True,
        "tied embeddings": model.tied_embeddings,
        f"bigram hash embedding of {model.bigram_buckets} buckets": bool(model.bigram_buckets),
        "smear gate": model.smear != "off",
        "backout": model.backout,
        f"attention windows of {', '.join(map(str, model.window))}": any(model.window),
        "exclusive self-attention": bool(model.xsa_layers),
        "attention output gate": model.attention_gate,
        f"{model.loops} loops of layers {model.loop_start} to {model.loop_end}": bool(model.loops),
        "Muon": True,
        f"EMA of the weights, {train.ema_decay:g}": train.ema,
        "SWA": train.swa and not train.ema,
        _QUANTIZERS.get(compress.quantizer, compress.quantizer): True,
        f"the size fitted to {compress.target_bytes:,} bytes": bool(compress.target_bytes),
        f"low-rank corrections of rank {compress.low_rank}": bool(compress.low_rank),
        f"entropy coding by {compress.codec}": True,
        f"sliding windows of {score.window}, stride {score.stride}": not score.streaming,
        _STRATEGIES.get(score.ttt, ""): score.ttt != "off",
    }
    return [words for words, used in found.items() if used and words]
