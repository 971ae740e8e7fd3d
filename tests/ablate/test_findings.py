import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.results import result

from golf_fast.ablate import findings
from golf_fast.ablate.runs import Outcome
from golf_fast.ablate.variants import WHOLE
from golf_fast.statistics import mean_interval

OUTCOMES = [
    Outcome(WHOLE, 1, result(1, 1.5, 1.6)),
    Outcome("ema", 1, result(1, 1.52, 1.65, params=90, size=1010, seconds=9.0)),
    Outcome("bigram", 1, result(1, 1.49, 1.61)),
    Outcome(WHOLE, 2, result(2, 1.4, 1.5)),
    Outcome("ema", 2, result(2, 1.44, 1.53, params=90, size=1020, seconds=10.0)),
    Outcome("bigram", 2, None, "exit code 1"),
    Outcome("ema", 3, result(3, 9.0, 9.0)),
]


def test_differences_are_paired_by_seed() -> None:
    whole, ema, bigram = findings.findings(OUTCOMES)
    assert (whole.name, ema.name, bigram.name) == (WHOLE, "ema", "bigram")
    assert (ema.seeds, bigram.seeds) == ((1, 2), (1,))
    assert ema.each == pytest.approx((0.02, 0.04))
    assert ema.difference.mean == pytest.approx(0.03)
    assert ema.difference.half_width == pytest.approx(mean_interval([0.02, 0.04]).half_width)
    assert ema.without_adapting is not None
    assert ema.without_adapting.mean == pytest.approx(0.04)
    assert (ema.params, ema.artifact_bytes, ema.seconds) == (-10, 15, pytest.approx(0.95))
    assert (bigram.difference.mean, bigram.difference.half_width) == (pytest.approx(-0.01), None)


def test_findings_become_a_table_a_file_and_a_picture(tmp_path: Path) -> None:
    found = findings.findings(OUTCOMES)
    text = findings.as_table(found)
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["nothing", "ema", "bigram"]
    assert "+0.0300" in text
    findings.write(found, "a title", {"recipe": "tiny"}, tmp_path)
    held = json.loads((tmp_path / "ablation.json").read_text())
    assert held["recipe"] == "tiny"
    assert [each["variant"] for each in held["findings"]] == [WHOLE, "ema", "bigram"]
    assert held["findings"][1]["worse_by"] == pytest.approx(0.03)
    assert held["findings"][1]["worse_before_compressing"] == pytest.approx(0.04)
    page = (tmp_path / "ablation.md").read_text()
    assert "| `ema` | the exponential average of the weights | 1.4800 | +0.0300 +- 0.1271 | +0.0200 +0.0400 |" in page
    for name in ("ablation.svg", "ablation.png"):
        findings.draw(found, "a title", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 2000


def test_where_tokens_stand_for_another_length_of_text_it_is_said() -> None:
    plain = replace(result(1, 1.6, 1.6), val_bytes=15000, val_tokens=5000)
    whole, case_ops = findings.findings([Outcome(WHOLE, 1, result(1, 1.5, 1.5)), Outcome("case_ops", 1, plain)])
    assert not case_ops.adapts
    assert findings.notes([whole, case_ops])[1].startswith(
        "case_ops: a token stands for 3.000 bytes of text in place of 2.550,"
    )
    assert not any("not adapting" in line for line in findings.as_markdown([whole, case_ops]))
    assert len(findings.notes(findings.findings(OUTCOMES))) == 1


def test_without_the_whole_recipe_there_is_nothing_to_compare() -> None:
    assert findings.findings(OUTCOMES[1:3]) == []
