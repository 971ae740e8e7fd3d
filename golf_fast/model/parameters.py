"""The table of parameters: the only place that says which parameters a model of a given configuration has.

The model is built and initialised from it. The public names, the groups of the optimizer, what adaptation freezes,
what calibration observes and how each tensor is quantized are read from it. It needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from golf_fast.config import ModelConfig

Role = Literal["matrix", "table", "vector", "output"]
"""Kind of a parameter, which decides its optimizer and dtype: a bank of matrices (trained by Muon); an embedding table,
vectors and scalars, or an untied output matrix (trained by AdamW, each at its own rate). Tables may have a narrower
dtype, all others are float32."""

Group = Literal["mlp", "attention", "bigram", "embedding", "gate", "control"]
"""How a tensor is quantized: "mlp", "attention", "bigram" and "embedding" at the width configured for that group,
"gate" in 8 bits, "control" (vectors and scalars) not at all."""

Activation = Literal["pairs", "attention", "attended", "mlp", "hidden", "head"]
"""The activation that a matrix is multiplied with: "pairs", the rows of the bigram table; in a block "attention", the
input of queries, keys and values; "attended", the output of attention; "mlp", the input of the MLP; "hidden", its
hidden units; "head", the input of the model's output matrix."""


@dataclass(frozen=True)
class Constant:
    """Every element starts as `value`."""

    value: float


@dataclass(frozen=True)
class Lines:
    """Every element of row i starts as `values[i]`."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Normal:
    """Elements start as draws from a normal distribution with mean 0."""

    std: float


@dataclass(frozen=True)
class Orthogonal:
    """The matrix starts as a random orthogonal one divided by `divisor`. With a side below 64 its elements are instead
    uniform in +-1 / sqrt(columns), divided likewise."""

    divisor: float = 1.0


Initial = Constant | Lines | Normal | Orthogonal


@dataclass(frozen=True)
class Part:
    """A tensor under a public name, or the same tensor of every block.

    Attributes:
        name: the public name; for a tensor of a block, without the prefix `blocks.N.`.
        initial: its values before training.
        group: how it is quantized.
        reads: the activation that it is multiplied with; None: it is not a matrix of a product.
    """

    name: str
    initial: Initial
    group: Group
    reads: Activation | None = None


@dataclass(frozen=True)
class Row:
    """A parameter of the model.

    Attributes:
        name: name of the attribute of `GPT`.
        shape: shape of the whole parameter.
        parts: the public tensors that it holds; exactly one if `layers` is empty.
        layers: the blocks whose slices lie in the first dimension, once for each part: slice `p * len(layers) + i` is
            part p of block `layers[i]`. Empty: the parameter belongs to no block.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    parts: tuple[Part, ...]
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.role != "matrix" or all(part.reads for part in self.parts), f"{self.name} is multiplied with what?"
        if self.layers:
            assert self.shape[0] == len(self.parts) * len(self.layers), f"{self.name} is {self.shape}"
        else:
            assert len(self.parts) == 1, self.name


@dataclass(frozen=True)
class Slice:
    """A public tensor, and its location in the parameters.

    Attributes:
        name: the full public name.
        row: the row of the table that holds it.
        part: the part of that row.
        index: index in the first dimension of the parameter; None: the whole parameter.
        layer: the block that it belongs to; None: no block.
    """

    name: str
    row: Row
    part: Part
    index: int | None
    layer: int | None


def table(config: ModelConfig) -> tuple[Row, ...]:
    """The parameters of a model, in the order in which they are stored and initialised (docs/seed.md, section 3)."""
    c = config
    d, all_layers = c.dim, tuple(range(c.layers))
    zero, one, drawn = Constant(0), Constant(1), Orthogonal()

    def bank(name: str, shape: tuple[int, ...], role: Role, *parts: Part) -> Row:
        """One slice of `shape` for each part and block."""
        return Row(name, (len(parts) * c.layers, *shape), role, parts, all_layers)

    def whole(name: str, shape: tuple[int, ...], role: Role, *of_part: Any) -> Row:
        return Row(name, shape, role, (Part(*of_part),))

    of_tokens: Activation | None = "head" if c.tied_embeddings else None
    small = Normal(c.embedding_init_std)
    rows = [whole("tok_emb", (c.vocab_size, d), "table", "tok_emb.weight", small, "embedding", of_tokens)]
    if c.bigram_buckets:
        projected = Orthogonal(divisor=math.sqrt(2 * c.layers))
        rows += [
            whole("bigram_embed", (c.bigram_buckets, c.bigram_dim), "table", "bigram.embed.weight", zero, "bigram"),
            whole("bigram_proj", (d, c.bigram_dim), "matrix", "bigram.proj.weight", projected, "bigram", "pairs"),
            whole("bigram_scale", (), "vector", "bigram.scale", Constant(0.05), "control"),
        ]
    rows += [
        *_smear(c),
        bank(
            "qo_bank", (d, d), "matrix",
            Part("attn.c_q.weight", drawn, "attention", "attention"),
            Part("attn.proj.weight", zero, "attention", "attended"),
        ),
        bank(
            "kv_bank", (c.kv_dim, d), "matrix",
            Part("attn.c_k.weight", drawn, "attention", "attention"),
            Part("attn.c_v.weight", drawn, "attention", "attention"),
        ),
        bank("mlp_up", (c.hidden, d), "matrix", Part("mlp.fc.weight", drawn, "mlp", "mlp")),
        bank("mlp_down", (d, c.hidden), "matrix", Part("mlp.proj.weight", zero, "mlp", "hidden")),
        bank("q_gain", (c.heads,), "vector", Part("attn.q_gain", Constant(c.qk_gain_init), "control")),
        bank("attn_scale", (d,), "vector", Part("attn_scale", one, "control")),
        bank("mlp_scale", (d,), "vector", Part("mlp_scale", one, "control")),
        bank("resid_mix", (2, d), "vector", Part("resid_mix", Lines((1, 0)), "control")),
        whole("skip_weights", (c.skip_rows, d), "vector", "skip_weights", one, "control"),
        *_gates_and_lanes(c),
    ]  # fmt: skip
    if c.backout:
        rows.append(whole("backout_lambda", (), "vector", "backout_lambda", Constant(c.backout_lambda_init), "control"))
    if not c.tied_embeddings:
        rows.append(whole("lm_head", (c.vocab_size, d), "output", "lm_head.weight", zero, "embedding", "head"))
    return tuple(rows)


def _vector(name: str, shape: tuple[int, ...], value: float, public: str = "") -> Row:
    """A row for a vector or scalar that belongs to no block; its public name is `public`, or `name` if that is
    empty."""
    return Row(name, shape, "vector", (Part(public or name, Constant(value), "control"),))


def _smear(c: ModelConfig) -> list[Row]:
    if c.smear == "after_norm":
        return [_vector("smear_gate", (c.dim,), 0, "smear.gate")]
    if c.smear == "before_norm":
        return [_vector("smear_gate", (1, c.smear_window), 0, "smear_gate.weight"), _vector("smear_lambda", (1,), 0)]
    return []


def _gates_and_lanes(c: ModelConfig) -> list[Row]:
    """Rows for mechanisms that the seed does not have (docs/top.md)."""
    rows = []
    if c.attention_gate:
        gate, of_blocks = Part("attn.attn_gate_w", Constant(0), "gate"), tuple(range(c.layers))
        rows.append(Row("attention_gate", (c.layers, c.heads, c.attention_gate_window), "vector", (gate,), of_blocks))
    if c.skip_gates:
        rows.append(_vector("skip_gates", (c.skip_rows, c.dim), 0))
    if c.lanes_from:
        rows.append(_vector("parallel_post_lambdas", (c.layers, 2, 2), 1))
        rows.append(_vector("parallel_resid_lambdas", (c.layers, 2), 1.1))
    return rows


def count(config: ModelConfig) -> int:
    """Number of parameters of a model."""
    return sum(math.prod(row.shape) for row in table(config))


def claim(config: ModelConfig, names: Iterable[str], reader: str) -> tuple[Row, ...]:
    """The table, checked against the parameters `names` that `reader` found; `reader` appears in the error.

    Raises:
        ValueError: a parameter has no row, or a row has no parameter.
    """
    rows, found = table(config), set(names)
    for name in sorted(found - {row.name for row in rows}):
        raise ValueError(f"{reader}: {name} is a parameter of the model without a row in golf_fast.model.parameters")
    for row in rows:
        if row.name not in found:
            raise ValueError(f"{reader}: {row.name} has a row in golf_fast.model.parameters, and the model lacks it")
    return rows


_PUBLISHED_ORDER = ("attn.c_q.", "attn.c_k.", "attn.c_v.", "attn.", "mlp.", "")
"""Prefixes of the public names of a block, in the order of the published files."""


def slices(config: ModelConfig) -> list[Slice]:
    """All public tensors in the order of the published files: those of no block, then block by block, and last the
    output matrix."""
    of_blocks = [
        Slice(f"blocks.{layer}.{part.name}", row, part, at * len(row.layers) + i, layer)
        for row in table(config)
        for at, part in enumerate(row.parts)
        for i, layer in enumerate(row.layers)
    ]
    of_blocks.sort(key=_place)
    others = [Slice(row.parts[0].name, row, row.parts[0], None, None) for row in table(config) if not row.layers]
    last = [found for found in others if found.row.role == "output"]
    return [*(found for found in others if found not in last), *of_blocks, *last]


def _place(of_block: Slice) -> tuple[int, int]:
    assert of_block.layer is not None
    first, *_ = (i for i, beginning in enumerate(_PUBLISHED_ORDER) if of_block.part.name.startswith(beginning))
    return of_block.layer, first


def quantization_groups(config: ModelConfig) -> dict[str, Group]:
    """The quantization group of each tensor, by public name."""
    return {found.name: found.part.group for found in slices(config)}
