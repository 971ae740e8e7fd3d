"""The losses of a run against what its artifact gives, and the model behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import Finding, flagged, passed, unknown
from golf_fast.audit.run.replay import TOLERANCES, TOLERANCES_ADAPTED, Replay, Sample, again
from golf_fast.audit.run.retraced import limit_on_record, retraced
from golf_fast.config import ScoreConfig
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.model.backends import require_compute_dtype, require_kernel_shapes, resolve_backends
from golf_fast.score import digest, probes
from golf_fast.score.ledger import cuts_of
from golf_fast.score.loading import read_model

_PROBED_TOKENS = 24
_PROBED_VOCABULARY = 2048
"""Up to this size each token is tried as the target: that takes a row of the model each."""
FOLLOWS = ("V2", "V4", "V5", "V12")
"""Rules that a run follows where its losses are those of this package's scorer on its artifact and tokens."""
_MEANS = {
    "V2": "the scorer fixes a loss before anything is learned from it",
    "V4": "they are logarithms of a softmax over the vocabulary",
    "V5": "nothing was fitted but what the ledger has",
    "V12": "nothing but artifact, tokenizer and validation tokens had a part in them",
}


def model_of(evidence: Evidence, device: torch.device) -> GPT | Missing:
    """The artifact's model, in the number format that the run computed in; on the CPU if the kernels of `device` take
    neither that nor its shapes."""
    dtype = evidence.compute_dtype
    if dtype is None:
        return Missing(f"compute_dtype is {evidence.result.compute_dtype!r:.40}, which no model computes in")
    try:
        model = read_model(evidence.paths.artifact, dtype)
    except InputError as error:
        return Missing(str(error))
    try:
        require_compute_dtype(device, dtype)
        require_kernel_shapes(device, model.config)
    except InputError:
        device = torch.device("cpu")
        resolve_backends(device)
    return model.to(device)


def no_model(evidence: Evidence, why: Missing) -> list[Finding]:
    """The findings if the artifact makes no model; a flag if the artifact itself can be read."""
    found = [unknown(check, why.why) for check in ("losses", *FOLLOWS)]
    if evidence.compute_dtype is not None and not isinstance(evidence.artifact, Missing):
        found.append(flagged("artifact", f"makes no model: {why.why}", evidence.paths.artifact.name))
    return found


def weights_hash(model: GPT) -> str:
    """What a ledger calls these weights."""
    return digest.of_tensors([*model.parameters(), *model.buffers()])


def replayed(evidence: Evidence, model: GPT, sample: Sample) -> list[Finding]:
    """Score a sample again, and judge the rules that show in the losses only."""
    validation, losses = evidence.validation, evidence.losses
    if isinstance(validation, Missing):
        return _not_replayed(validation.why)
    if isinstance(losses, Missing):
        return _not_replayed(losses.why)
    if validation.targets != len(losses):
        return _not_replayed(f"there are {len(losses):,} losses of {validation.targets:,} targets")
    config = evidence.config.score
    training = _slice(evidence, config) if config.ttt == "held_out" else None
    if isinstance(training, Missing):
        return _not_replayed(training.why)
    try:
        replay = again(model, validation, config, sample, training, _cuts(evidence))
    except InputError as error:
        return [flagged("losses", f"the artifact does not give them: {error}"), *_open("the losses are not its own")]
    found = [_compared(evidence, replay, losses, sample, evidence.paths.token_losses.name)]
    if found[0].outcome != "pass":
        return [*found, *_open("the losses are not known to be its own")]
    found += retraced(evidence, replay, losses)
    count, targets = int(replay.done.sum()), len(losses)
    over = f"of {count:,} replayed targets of {targets:,}, " if count < targets else ""
    found += [passed(rule, f"{over}{_MEANS[rule]}") for rule in FOLLOWS if rule != "V12" or config.ttt != "held_out"]
    if not replay.anywhere:
        time = _time(replay.seconds_for_all)
        text = (
            f"targets after the first {count:,} were adapted to what came before; --full replays them, in about {time}"
        )
        found += [unknown(check, text) for check in ("losses", *FOLLOWS)]
    return found


def replayed_before(evidence: Evidence, model: GPT, sample: Sample) -> list[Finding]:
    """Score a sample again without adapting, where the run left what that gave."""
    validation, losses = evidence.validation, evidence.losses_before
    config = replace(evidence.config.score, ttt="off")
    if isinstance(validation, Missing) or isinstance(losses, Missing) or evidence.config.score.ttt == "off":
        return []
    if validation.targets != len(losses):
        return []
    try:
        replay = again(model, validation, config, sample)
    except InputError as error:
        return [flagged("losses", f"the artifact does not give them: {error}", evidence.paths.token_losses_before.name)]
    return [_compared(evidence, replay, losses, sample, evidence.paths.token_losses_before.name)]


def probed(model: GPT) -> list[Finding]:
    """V4 and the order of time, by running the artifact's model on a few tokens."""
    device = model.get_parameter("tok_emb").device

    def predict(tokens: torch.Tensor) -> torch.Tensor:
        return model.logits(tokens.to(device)).cpu()

    def losses(tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return model.token_losses(tokens.to(device), targets.to(device)).cpu()

    size = model.config.vocab_size
    if size <= _PROBED_VOCABULARY:
        sums = probes.normalization_of_losses(losses, size, _PROBED_TOKENS)
    else:
        sums = probes.normalization(predict, size, _PROBED_TOKENS, logits=True)
    found = []
    for rule, probe in (("V5", probes.causality(predict, size, _PROBED_TOKENS)), ("V4", sums)):
        made = passed if probe.passed else flagged
        found.append(made(rule, f"probe of {probe.name} on {_PROBED_TOKENS} tokens: {probe.where}"))
    return found


def _compared(
    evidence: Evidence, replay: Replay, recorded: npt.NDArray[np.float32], sample: Sample, name: str
) -> Finding:
    tolerances = TOLERANCES_ADAPTED if replay.adapted else TOLERANCES
    allowed = tolerances.get(evidence.result.compute_dtype, tolerances["bfloat16"])
    targets = np.flatnonzero(replay.done)
    off = replay.losses[targets] - recorded[targets].astype(np.float64)
    worst = int(np.abs(off).argmax())
    mean = float(off.mean())
    count = f"{len(targets):,} of {len(recorded):,} targets"
    if not replay.whole and replay.anywhere:
        count += f" at {replay.places} places drawn by seed {sample.seed},"
    if not abs(off[worst]) <= allowed.each or not abs(mean) <= allowed.mean:
        number = int((~(np.abs(off) <= allowed.each)).sum())
        at = int(targets[worst])
        text = (
            f"target {at} has {recorded[at]:.4f}, the artifact gives {replay.losses[at]:.4f}; of {count} replayed "
            f"{number:,} are off by more than {allowed.each:g}, the mean by {mean:+.5f} (at most {allowed.mean:g})"
        )
        if replay.adapted and not limit_on_record(evidence):
            return unknown("losses", f"{text}; scoring had a limit of time, and what it gave up is not on record")
        return flagged("losses", text, name)
    text = f"{count} replayed: the worst is off by {abs(off[worst]):.2g} nats, the mean by {mean:+.2g}"
    return passed("losses", text, name)


def _cuts(evidence: Evidence) -> dict[tuple[str, int], int]:
    return {} if isinstance(evidence.events, Missing) else cuts_of(evidence.events)


def _slice(evidence: Evidence, config: ScoreConfig) -> npt.NDArray[np.uint16] | Missing:
    """The training tokens that held_out learned from: the last ones, if their hash is that of the ledger."""
    dataset, events = evidence.dataset, evidence.events
    if isinstance(dataset, Missing):
        return Missing(f"the training tokens that were adapted to are needed: {dataset.why}")
    if isinstance(events, Missing):
        return events
    stream = dataset.train_stream()
    count = min(config.held_out.tokens, stream.tokens)
    tokens = stream.read(stream.tokens - count, count)
    hashed = digest.of_tokens(tokens, [(-1, len(tokens) - 1)])
    if (count, hashed) not in {(event["size"], event.get("tokens")) for event in events if event["event"] == "adapt"}:
        return Missing(f"the last {count:,} training tokens are not those that the ledger names")
    return tokens


def _not_replayed(why: str) -> list[Finding]:
    return [unknown("losses", f"nothing was replayed: {why}"), *_open("nothing was replayed")]


def _open(why: str) -> list[Finding]:
    return [unknown(rule, why) for rule in FOLLOWS]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
