"""Whether the model computes a training step right on a device, before any time is taken."""

from __future__ import annotations

from collections.abc import Callable

import torch

from golf_fast.config import ModelConfig
from golf_fast.model import GPT
from golf_fast.ops import backends

PLAIN = "reference,window_attention=sdpa"
"""The backends that share no kernel with ours."""
CPU_LENGTH = 256
TOKENS_AT_ONCE = 8192
MORE_AT_ONCE = 49152
"""Tokens that go through a step with plain operations together: what a whole micro-batch saves for the backward would
not fit into 80 GB. A token of the largest recipe takes 1 MB in float32, and 0.62 MB in bfloat16 where the scores of
attention are not written: in float32, and with a window, no kernel of torch's that has groups of heads does without."""
COMPILED_LOSS = 0.003
"""Share by which the compiled model's mean loss may differ from that of the same model as it is."""
MANY, RMS_MANY, RMS_FEW = 4096, 1.1, 2.0
"""Elements of a gradient from which on luck is no part of its norm; and the factors of the rule."""
SLACK = 5e-4
"""Share of a tensor's norm, and of its largest number, that the order of float32 sums may make."""

SHOWN = 8
"""How many of the tensors that are wrong are named: which they are says in which op the fault is."""

Results = dict[str, torch.Tensor]
"""The loss of each position and the gradient of each parameter, by name; float64."""


Micro = tuple[torch.Tensor, ...]
"""What the model's mean loss is of: tokens and targets, and perhaps documents."""


def as_trained(config: ModelConfig, tokens: torch.Tensor, targets: torch.Tensor) -> Micro:
    """Rows as a micro-step has them: as they are, or as documents of a single row, where the model keeps those apart.

    Their number is repeated at the end, as that of a training batch, which changes while its shape does not.
    """
    if not config.separate_documents:
        return tokens, targets
    ends = [*range(0, tokens.numel() + 1, tokens.shape[1]), tokens.numel(), tokens.numel()]
    documents = torch.tensor(ends, dtype=torch.int32, device=tokens.device)
    return tokens.view(1, -1), targets.view(1, -1), documents


def wrong(model: GPT, loss: Callable[..., torch.Tensor], tokens: torch.Tensor, targets: torch.Tensor) -> str | None:
    """None if losses and gradients are right, else what is wrong.

    On a GPU the whole micro-batch, on a CPU a part of one row, against the same model in float32 with plain PyTorch's
    operations on the same device: of the losses and of each gradient the largest error is within twice that of the
    plain operations in bfloat16, and its norm within 1.1 of theirs (gradients of few numbers: twice). A NaN is never
    within. A gradient of one number is left out: the plain version may have it right by luck.

    A model that keeps documents apart gets the rows as documents of a single row: with plain operations they give what
    they give as rows, for the cuts are all that differs.

    Then the graph that will be timed, on the tokens that it will be timed on: its mean loss is the model's, and its
    gradients obey the same rule.
    """
    whole = tokens.device.type == "cuda" or loss is not model
    row, after = (tokens, targets) if whole else (tokens[:1, :CPU_LENGTH], targets[:1, :CPU_LENGTH])
    exact, low = plain(model, row, after)
    ours = results(model, model.compute_dtype, *as_trained(model.config, row, after))
    if problem := beyond({**ours, "loss": ours["loss"].view(row.shape)}, exact, low):
        return problem
    return None if loss is model else _compiled_wrong(model, loss, as_trained(model.config, row, after), exact, low)


def plain(model: GPT, tokens: torch.Tensor, targets: torch.Tensor) -> tuple[Results, Results]:
    """The losses and gradients of a batch by plain operations, in float32 and in bfloat16."""
    narrow = TOKENS_AT_ONCE if any(model.config.windows) else MORE_AT_ONCE
    with backends.requested(PLAIN):
        exact = results(model, torch.float32, tokens, targets, at_once=TOKENS_AT_ONCE)
        low = results(model, torch.bfloat16, tokens, targets, at_once=narrow)
    return exact, low


def _compiled_wrong(
    model: GPT,
    loss: Callable[..., torch.Tensor],
    micro: Micro,
    exact: Results,
    low: Results,
) -> str | None:
    for parameter in model.parameters():
        parameter.grad = None
    mean = loss(*micro)
    torch.autograd.backward(mean)
    plain, timed = float(exact["loss"].mean()), float(mean.detach())
    if not abs(timed - plain) <= COMPILED_LOSS * abs(plain):
        return f"the compiled loss is {timed:.4f}, the model's {plain:.4f}"
    found = _gradients(model)
    for parameter in model.parameters():
        parameter.grad = None
    problem = beyond(found, {name: exact[name] for name in found}, low)
    return problem and f"compiled, {problem}"


def beyond(ours: Results, exact: Results, low: Results) -> str | None:
    """What of `exact` `ours` does not reach within the rule of `wrong`, each with its errors, or None."""
    found = [problem for name in exact if (problem := _beyond(name, ours[name], exact[name], low[name]))]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more if found else None


def _beyond(name: str, ours: torch.Tensor, right: torch.Tensor, low: torch.Tensor) -> str | None:
    if right.numel() == 1:
        return None
    difference, plain = ours - right, low - right
    error, limit = (float(t.abs().max()) for t in (difference, plain))
    limit = 2 * limit + SLACK * float(right.abs().max())
    if not error <= limit:
        return f"{name} is off by {error:.3g}, more than {limit:.3g}"
    error, limit, size = (float(torch.linalg.vector_norm(t)) for t in (difference, plain, right))
    factor = RMS_MANY if right.numel() >= MANY else RMS_FEW
    if not error <= factor * limit + SLACK * size:
        return f"{name} is off by {error:.3g} in its norm, more than {factor} x {limit:.3g}"
    return None


def results(
    model: GPT,
    dtype: torch.dtype,
    tokens: torch.Tensor,
    targets: torch.Tensor,
    documents: torch.Tensor | None = None,
    at_once: int | None = None,
) -> Results:
    """From a copy of the model that computes in `dtype`.

    Args:
        documents: as in `GPT.forward`.
        at_once: tokens of the rows that go through it together; None: all.
    """
    copy = GPT(model.config, compute_dtype=dtype, embedding_dtype=_tables(model, dtype), seed=None)
    copy.load_state_dict(model.state_dict())
    copy.to(tokens.device)
    rows = max(1, (at_once or tokens.numel()) // tokens.shape[1])
    losses = []
    for start in range(0, len(tokens), rows):
        found = copy.token_losses(tokens[start : start + rows], targets[start : start + rows], documents)
        torch.autograd.backward(found.sum() / tokens.numel())
        losses.append(found.detach().double())
    return {"loss": torch.cat(losses), **_gradients(copy)}


def _tables(model: GPT, dtype: torch.dtype) -> torch.dtype:
    """The dtype of the embedding tables of a copy; the gradients of narrow tables are rounded."""
    return torch.float32 if dtype == torch.float32 else model.tok_emb.dtype


def _gradients(model: GPT) -> Results:
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        found[f"the gradient of {name}"] = parameter.grad.double()
    return found
