"""The challenge's limits and the ways in which a submission breaks its rules: each stands here once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SIZE_LIMIT_BYTES = 16_000_000
"""Code and compressed model together, counting the files that ship. One byte over is out."""
TRAIN_LIMIT_SECONDS = 600.0
"""Training, with quantization and its calibration where they read training data, on `RANKED_DEVICES`."""
EVALUATION_LIMIT_SECONDS = 600.0
"""Evaluation, after the training."""
RANKED_DEVICES = "8xH100"
"""The machine on which the limits of time are meant."""
RECORD_MARGIN_NATS = 0.005
"""Nats a token by which a record beats the best before it; a pure speed-up that leaves the model as it is need not."""
RECORD_P_VALUE = 0.01
"""Significance at which a record shows its margin, normally by three seeds."""

SCORED_ROW_TOKENS = 2048
"""Targets of a row: the published scripts cut the validation split to whole rows of this length."""
VALIDATION_TARGETS = {
    "sp1024": 62_021_632,
    "sp4096": 45_508_608,
    "sp8192": 40_540_160,
    "sp8192_caseops": 47_851_520,
}
"""Targets that are scored, by the variant of the tokens: the split cut to whole rows of `SCORED_ROW_TOKENS`."""

VALIDATION_BYTES = {"sp1024": 151_080_363}
"""UTF-8 bytes of text that those targets stand for, by the variants whose tokenizer tells."""


def variant_of(folder: str) -> str:
    """The variant of the tokens in a folder, by the name that the challenge's data have; "" for another name."""
    name = folder.removeprefix("fineweb10B_")
    if name in VALIDATION_TARGETS:
        return name
    return "sp8192_caseops" if name.startswith("sp8192_") and "caseops" in name else ""


@dataclass(frozen=True)
class Violation:
    """A way in which a submission breaks the rules."""

    number: str
    """V1 to V14, as results, ledgers and reviewers write it."""
    name: str
    """A few words for a table."""
    text: str
    """One sentence: what it is that breaks the rules."""


VIOLATIONS = {
    violation.number: violation
    for violation in (
        Violation("V1", "train, then score", "Validation tokens change the model before they are scored."),
        Violation(
            "V2", "update before score", "In the loop over chunks, a chunk is trained on before its loss counts."
        ),
        Violation(
            "V3",
            "not each token once",
            "Some token is scored more than once or never, or training follows the last chunk.",
        ),
        Violation(
            "V4",
            "not a distribution",
            "The probability of the true token is made from what is known of that token only, so that the "
            "probabilities of all tokens do not sum to 1.",
        ),
        Violation("V5", "fitted to its targets", "A parameter is fitted to a window that is then scored with it."),
        Violation("V6", "space counted twice", "The byte table includes the leading space, and the sum adds it again."),
        Violation(
            "V7", "byte tokens too long", "A byte-fallback token counts as more bytes than the one it stands for."
        ),
        Violation("V8", "truncated split", "The validation split is not the whole split of its variant."),
        Violation(
            "V9", "late calibration", "Calibration or quantization on training data ends after the time of training."
        ),
        Violation("V10", "wrong file measured", "The bytes reported are not those of the files that ship."),
        Violation("V11", "overrun", "Training stopped, or the evaluation ended, after its limit of time."),
        Violation("V12", "outside help", "The evaluation uses the network or reads training shards."),
        Violation(
            "V13",
            "leak between documents",
            "A model that declares its documents separate mixes tokens of one into the next.",
        ),
        Violation("V14", "different code", "The seeds of one submission ran with different code."),
    )
}
"""Every violation by its number."""


def is_legal(violations: Sequence[str], not_judged: Sequence[str]) -> bool:
    """Whether no rule is broken, and none left open: by a run that did not finish, or that set itself no limit.

    Args:
        violations: numbers of the rules broken.
        not_judged: sentences on what could not be judged; one that leaves a rule open begins with its number.
    """
    return not violations and not any(re.match(r"V\d|the run", said) for said in not_judged)


def in_words(violations: Sequence[str], not_judged: Sequence[str]) -> str:
    """The same for people: legal, NOT LEGAL with the rules broken, or not judged."""
    if violations:
        return f"NOT LEGAL ({', '.join(violations)})"
    return "legal" if is_legal(violations, not_judged) else "NOT JUDGED"


def sentence(number: str) -> str:
    """A violation in words, as `V1 (train, then score): Validation tokens change ...`."""
    violation = VIOLATIONS[number]
    return f"{number} ({violation.name}): {violation.text}"
