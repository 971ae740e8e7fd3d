"""The model (docs/seed.md, section 3). Shapes: B rows, T positions, D model width, V vocabulary."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from golf_fast import ops
from golf_fast.config import ModelConfig
from golf_fast.model import parameters
from golf_fast.model.adapters import HEAD, Adapters, SlotAdapters
from golf_fast.model.block import Block, Pass, Weights, rotary_tables, views
from golf_fast.model.cache import Cache
from golf_fast.model.embedding import Observer, embed
from golf_fast.model.parameters import Row
from golf_fast.model.plan import Plan, plan_of
from golf_fast.ops import rms_norm


class GPT(nn.Module):
    """A U-Net-shaped transformer with its parameters in banks.

    Matrices of equal shape are one parameter `[n, rows, cols]`, so that Muon works on a bank in one batched call:
    `qo_bank` `[2L, D, D]` (queries of blocks 0 to L-1, then their output matrices), `kv_bank` `[2L, kv_dim, D]`
    (keys, then values), `mlp_up` `[L, H, D]`, `mlp_down` `[L, D, H]`. `golf_fast.model.upstream` maps them to the
    public names and back.

    Parameters are float32, the embedding tables `embedding_dtype`; all are cast to `compute_dtype` at use, which is
    also the dtype of the residual stream. Losses and logits are float32.

    The rows of a batch `[B, T]` are independent: positions, bigrams and the smear start anew in each.

    Args:
        config: the shape of the model.
        compute_dtype: dtype of activations and products.
        embedding_dtype: dtype of the embedding tables.
        seed: seed of the initial values; None: all parameters are 0, for a model whose weights are loaded later.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: torch.dtype = torch.float32,
        embedding_dtype: torch.dtype = torch.float32,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self._plans = {looped: plan_of(config, looped) for looped in (False, True)}
        self.plan = self._plans[True]
        _require_formulas(config, self.plan)
        for row in parameters.table(config):
            dtype = embedding_dtype if row.role == "table" else torch.float32
            self.register_parameter(row.name, nn.Parameter(torch.zeros(row.shape, dtype=dtype)))
        self.observer: Observer | None = None
        self._most = 0
        if seed is not None:
            self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set all parameters to their initial values, drawn from a generator seeded with `seed`."""
        generator = torch.Generator().manual_seed(seed)
        for row, parameter in self.claimed("the initial values"):
            for i, tensor in enumerate(parameter.unbind() if row.layers else [parameter]):
                _fill(tensor, row.parts[i // max(len(row.layers), 1)].initial, generator)

    def loop(self, looped: bool) -> None:
        """Turn the repetition of the loop's layers on, as in a new model, or off, as in the first part of training.

        torch.compile compiles the model once for each of the two.
        """
        self.plan = self._plans[looped]

    def limit_windows(self, most: int) -> None:
        """Limit the attention window to `most` positions from now on, including the query's own; 0: no limit.

        torch.compile compiles the model once for each limit.
        """
        self._most = most

    def claimed(self, reader: str) -> list[tuple[Row, nn.Parameter]]:
        """All parameters with their rows in the table of parameters, in its order; `reader` appears in the error.

        Raises:
            ValueError: a parameter has no row, or a row has no parameter.
        """
        named = dict(self.named_parameters())
        return [(row, named[row.name]) for row in parameters.claim(self.config, named, reader)]

    def forward(
        self,
        tokens: torch.Tensor,
        targets: torch.Tensor,
        documents: torch.Tensor | None = None,
        weights: Pass | None = None,
    ) -> torch.Tensor:
        """The mean cross-entropy loss.

        Args:
            tokens: `[B, T]` int64.
            targets: `[B, T]` int64, the token that follows each of `tokens`.
            documents: `[n + 1]` int32, for a single row (B = 1): the position at which each document starts, beginning
                with 0, then the end of the last. T may be repeated at the end to keep the size constant. Attention,
                bigrams and the smear start anew in each document; positions do not. None: each row is one document.
            weights: the weights of the blocks, as `views()` returns them; None: they are made here.

        Returns:
            A float32 scalar, in nats per token.

        Raises:
            ValueError: `documents` with several rows, or of another dtype, shape or device.
        """
        return self.head(self._stream(tokens, documents, weights=weights), targets).mean()

    def token_losses(
        self,
        tokens: torch.Tensor,
        targets: torch.Tensor,
        documents: torch.Tensor | None = None,
        first: int = 0,
        adapters: Adapters | None = None,
        *,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """The loss of each position from `first` on: `[B, T - first]` float32, in nats.

        Positions before `first` are computed only as far as the wanted losses depend on them: in the last block their
        keys and values, in earlier blocks what is within reach of the attention windows that follow.

        Args:
            tokens: as in `forward`; so are `targets` and `documents`.
            first: the first position whose loss is wanted.
            adapters: low-rank additions to the matrices, separate for each of the B rows; None: there are none.
            cache: the state of the sequences that `tokens` continue; excludes `documents`.
        """
        return self.head(self._stream(tokens, documents, first, adapters, cache), targets[:, first:], adapters)

    def logits(
        self,
        tokens: torch.Tensor,
        documents: torch.Tensor | None = None,
        first: int = 0,
        *,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """Soft-capped logits `[B, T - first, V]` float32 of the token after each of `tokens` `[B, T]` int64.

        Arguments as in `token_losses`.
        """
        x = rms_norm(self._stream(tokens, documents, first, cache=cache))
        return ops.softcap_logits(x, self._output_matrix(), self.config.logit_softcap)

    def embed(self, tokens: torch.Tensor, documents: torch.Tensor | None = None) -> torch.Tensor:
        """The stream before the first block: `[B, T]` int64 to `[B, T, D]`."""
        return embed(tokens, self._weights(), self.config, self.compute_dtype, documents, self.observer)

    def new_cache(self) -> Cache:
        """An empty cache, for sequences that begin with the next call."""
        return Cache(self._windows)

    def views(self) -> Pass:
        """The weights of the blocks, in the compute dtype."""
        return views(self._weights(), self.plan, self.config, self.compute_dtype, self._windows)

    def head(self, x: torch.Tensor, targets: torch.Tensor, adapters: Adapters | None = None) -> torch.Tensor:
        """The losses `[B, T]` float32, in nats, of `targets` `[B, T]` int64 given the final stream `x` `[B, T, D]`."""
        x = rms_norm(x)
        if self.observer is not None:
            self.observer.sees("head", None, x)
        weight, softcap = self._output_matrix(), self.config.logit_softcap
        if adapters is not None and (HEAD, "head") in adapters.pairs:
            logits = adapters.add(F.linear(x, weight), x, HEAD, "head")
            return ops.softcap_losses(logits, targets, softcap)
        return ops.softcap_cross_entropy(x, weight, targets, softcap)

    def _output_matrix(self) -> torch.Tensor:
        return _output_matrix(self._weights(), self.config).to(self.compute_dtype)

    def _weights(self) -> dict[str, torch.Tensor]:
        return dict(self.named_parameters())

    @property
    def _windows(self) -> list[int | None]:
        windows = [self.config.windows[slot.layer] for slot in self.plan.slots]
        return [min(window or self._most, self._most) for window in windows] if self._most else windows

    def _stream(
        self,
        tokens: torch.Tensor,
        documents: torch.Tensor | None = None,
        first: int = 0,
        adapters: Adapters | None = None,
        cache: Cache | None = None,
        weights: Pass | None = None,
    ) -> torch.Tensor:
        """The residual stream `[B, T - first, D]` after the plan and the backout, from position `first` on."""
        plan, weights = self.plan, self.views() if weights is None else weights
        kept, length = plan.kept, tokens.shape[1]
        position = 0 if cache is None else cache.position
        rotary = rotary_tables(length, self.config, self.compute_dtype, tokens.device, position)
        joined = tokens if cache is None else cache.read(tokens)
        # Positions that a slot can leave out are at the beginning, so `rows` counts positions from the end.
        whole = cache is not None or documents is not None
        starts = [0] * len(plan.slots) if whole else plan.starts(self._windows, first)
        rows = [length - start for start in (*starts, first)]
        x = x0 = middle = _last(self.embed(joined, documents), rows[0])
        branch: torch.Tensor | None = None
        second: torch.Tensor | None = None
        outputs: dict[int, torch.Tensor] = {}
        for i, (slot, block) in enumerate(zip(plan.slots, weights.blocks, strict=True)):
            if i == plan.lanes_from:
                x, branch = x if branch is None else x + branch, None
                second = x
            if i == 0:
                x, into_attention = block.begin(x0)
            else:
                source = plan.added(i)
                skip = None if source is None else _last(outputs.pop(source), rows[i])
                before, x, into_attention = block.mix(x, _last(x0, rows[i]), branch, skip)
                if i - 1 in kept:
                    outputs[i - 1] = before
                x = x if second is None else before
            turns = rotary[0][length - rows[i] :], rotary[1][length - rows[i] :]
            unasked = rows[i] - rows[i + 1]
            own = None if adapters is None else SlotAdapters(adapters, i)
            past = None if cache is None else cache.pasts[i]
            attended = block.attend(into_attention, turns, documents, own, unasked, past)
            if unasked:  # after attention no position sees another
                x, into_attention = x[:, unasked:], into_attention[:, unasked:]
                second = None if second is None else second[:, unasked:]
            if second is not None:
                _show(self.observer, slot.layer, block, into_attention, attended, second)
                x, second = block.route(x, second, attended, into_attention, own)
                continue
            x, rstd = block.output(attended, x, own, into_attention)
            _show(self.observer, slot.layer, block, into_attention, attended, x)
            branch = block.mlp(x, rstd, own)
            if i == plan.backout_from:
                x, branch = x + branch, None
                middle = x
        if second is not None:
            x = _merged(x, second, self.config.lanes_end)
        x = x if branch is None else x + branch
        if weights.backout is not None:
            x = x - weights.backout * middle[:, middle.shape[1] - x.shape[1] :]
        return x


def _last(x: torch.Tensor, rows: int) -> torch.Tensor:
    """The last `rows` positions of `x` `[B, T, D]`, contiguous where that is less than all."""
    return x if x.shape[1] == rows else x[:, x.shape[1] - rows :].contiguous()


def _merged(first: torch.Tensor, second: torch.Tensor, end: str) -> torch.Tensor:
    """The input of the logits from the streams of attention and of the MLP, as `ModelConfig.lanes_end` says."""
    if end == "mean":
        return (first + second) / 2
    return second if end == "mlp" else first


def _show(
    observer: Observer | None,
    layer: int,
    block: Block,
    into_attention: torch.Tensor,
    attended: torch.Tensor,
    x: torch.Tensor,
) -> None:
    """Show an observer the inputs of the matrices of a block; `x` is the input of the MLP before its norm."""
    if observer is None:
        return
    into_mlp = rms_norm(x)
    observer.sees("attention", layer, block.norm_scale * into_attention)
    observer.sees("attended", layer, attended)
    observer.sees("mlp", layer, block.norm_scale * into_mlp)
    observer.sees("hidden", layer, block.hidden(into_mlp))


def _output_matrix(weights: Weights, config: ModelConfig) -> torch.Tensor:
    return weights["tok_emb" if config.tied_embeddings else "lm_head"]


class _ReadTracker(dict[str, torch.Tensor]):
    """Weights that record which of them are read."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> torch.Tensor:
        self.read.add(name)
        return super().__getitem__(name)


def _require_formulas(config: ModelConfig, plan: Plan) -> None:
    """Raise a ValueError if the table of parameters has one that no formula of the model reads."""
    rows = parameters.table(config)
    weights = _ReadTracker({row.name: torch.empty(row.shape, device="meta") for row in rows})
    embed(torch.empty(1, 1, dtype=torch.int64, device="meta"), weights, config, torch.float32)
    views(weights, plan, config, torch.float32)
    _output_matrix(weights, config)
    for row in rows:
        if row.name not in weights.read:
            raise ValueError(
                f"{row.name} has a row in golf_fast.model.parameters, and no formula of the model reads it"
            )


def _fill(tensor: torch.Tensor, initial: parameters.Initial, generator: torch.Generator) -> None:
    if isinstance(initial, parameters.Constant):
        tensor.fill_(initial.value)
    elif isinstance(initial, parameters.Lines):
        for line, value in zip(tensor, initial.values, strict=True):
            line.fill_(value)
    elif isinstance(initial, parameters.Normal):
        tensor.copy_(torch.empty(tensor.shape).normal_(0, initial.std, generator=generator))
    else:
        drawn = torch.empty(tensor.shape)
        if min(drawn.shape) >= 64:
            nn.init.orthogonal_(drawn, generator=generator)
        else:
            bound = 1 / math.sqrt(drawn.shape[1])
            nn.init.uniform_(drawn, -bound, bound, generator=generator)
        tensor.copy_(drawn.div_(initial.divisor))
