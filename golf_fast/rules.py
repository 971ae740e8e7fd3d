"""The limits of the challenge, and the violations of its rules; each is defined only here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SIZE_LIMIT_BYTES = 16_000_000
"""Greatest total size in bytes of the shipped files, code and compressed model; one byte more is too large."""
TRAIN_LIMIT_SECONDS = 600.0
"""Time limit in seconds, on `RANKED_DEVICES`, of training including calibration and quantization if these read training
data."""
EVALUATION_LIMIT_SECONDS = 600.0
"""Time limit in seconds of the evaluation after training, on `RANKED_DEVICES`."""
RANKED_DEVICES = "8xH100"
"""The machine for which the time limits are defined."""
RECORD_MARGIN_NATS = 0.005
"""Nats per token by which a record must beat the previous one, unless it is a pure speed-up of the same model."""
RECORD_P_VALUE = 0.01
"""Significance level at which a record must show its margin, normally with three seeds."""

SCORED_ROW_TOKENS = 2048
"""Length of a row in targets: the published scripts cut the validation split to whole rows of this length."""
VALIDATION_TARGETS = {
    "sp1024": 62_021_632,
    "sp4096": 45_508_608,
    "sp8192": 40_540_160,
    "sp8192_caseops": 47_851_520,
}
"""Number of targets that are scored, by variant of the tokens: the split cut to whole rows of `SCORED_ROW_TOKENS`."""

VALIDATION_BYTES = {"sp1024": 151_080_363}
"""Number of UTF-8 bytes that those targets stand for, for variants whose tokenizer determines it."""


def variant_of(folder: str) -> str:
    """The variant of the challenge's data that the name of a folder of shards contains; "" if there is none."""
    match = re.search(r"fineweb.*_(sp\d+)", folder)
    if match is None:
        return ""
    variant = match[1] + ("_caseops" if "caseops" in folder else "")
    return variant if variant in VALIDATION_TARGETS else ""


@dataclass(frozen=True)
class Violation:
    """A way in which a submission breaks the rules."""

    number: str
    """V1 to V14, as used in results, ledgers and reviews."""
    name: str
    """A short name for tables."""
    text: str
    """One sentence that describes the violation."""


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
    """Whether no rule is broken and none is undecided, as for a run that did not finish or had no time limit.

    Args:
        violations: numbers of the broken rules.
        not_judged: sentences on what could not be judged; one that leaves a rule undecided begins with its number.
    """
    return not violations and not any(re.match(r"V\d|the run", said) for said in not_judged)


def in_words(violations: Sequence[str], not_judged: Sequence[str]) -> str:
    """The verdict as a text: legal, NOT LEGAL with the broken rules, or not judged."""
    if violations:
        return f"NOT LEGAL ({', '.join(violations)})"
    return "legal" if is_legal(violations, not_judged) else "NOT JUDGED"


def sentence(number: str) -> str:
    """A violation as a sentence, such as `V1 (train, then score): Validation tokens change ...`."""
    violation = VIOLATIONS[number]
    return f"{number} ({violation.name}): {violation.text}"
