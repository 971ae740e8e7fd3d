"""The rules stand once, and what docs/rules.md says of them is the same."""

import re
from pathlib import Path

from golf_fast import rules

DOCUMENT = (Path(__file__).parents[1] / "docs" / "rules.md").read_text()


def test_every_violation_has_its_number_a_name_and_one_sentence() -> None:
    assert list(rules.VIOLATIONS) == [f"V{number}" for number in range(1, 15)]
    for number, violation in rules.VIOLATIONS.items():
        assert violation.number == number
        assert re.fullmatch(r"[A-Z][^.]*\.", violation.text)
        assert len({other.name for other in rules.VIOLATIONS.values()}) == 14
    assert rules.sentence("V11") == "V11 (overrun): Training stopped, or the evaluation ended, after its limit of time."


def test_the_document_names_the_same_violations_and_limits() -> None:
    rows = re.findall(r"^\| (V\d+) \| ", DOCUMENT, re.MULTILINE)
    assert sorted(set(rows)) == sorted(rules.VIOLATIONS)
    assert f"{rules.SIZE_LIMIT_BYTES:,} bytes" in re.sub(r"`", "", DOCUMENT)
    assert f"{rules.TRAIN_LIMIT_SECONDS:.3f} s on {rules.RANKED_DEVICES}" in DOCUMENT


def test_the_known_splits_are_whole_rows() -> None:
    whole = (47_853_344 - 1) // rules.SCORED_ROW_TOKENS * rules.SCORED_ROW_TOKENS  # the first token is no target
    assert rules.VALIDATION_TARGETS["sp8192_caseops"] == whole
    assert all(targets % rules.SCORED_ROW_TOKENS == 0 for targets in rules.VALIDATION_TARGETS.values())


def test_variants_are_known_by_their_folders() -> None:
    assert rules.variant_of("fineweb10B_sp1024") == "sp1024"
    assert rules.variant_of("fineweb10B_sp8192_lossless_caps_caseops_v1_reserved") == "sp8192_caseops"
    assert rules.variant_of("fineweb10B_sp300") == rules.variant_of("my_shards") == rules.variant_of("sp1024") == ""
