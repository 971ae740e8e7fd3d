"""The judge of scripts, on scripts of both kinds. Those in `scripts/blind` were written without knowing the judge.

A script `legal_*.py` breaks no rule; `illegal_*.py` breaks the one that its docstring names, or just one.
"""

import re
from pathlib import Path

import pytest

from golf_fast.audit.script import judge

FOLDER = Path(__file__).parent / "scripts"
SCRIPTS = sorted((*FOLDER.glob("*.py"), *(FOLDER / "blind").glob("*.py")))
LEGAL = [path for path in SCRIPTS if path.name.startswith("legal_")]
ILLEGAL = [path for path in SCRIPTS if path.name.startswith("illegal_")]


def test_every_script_says_which_kind_it_is() -> None:
    assert len(LEGAL) + len(ILLEGAL) == len(SCRIPTS) >= 50
    assert len(LEGAL) >= 20


@pytest.mark.parametrize("path", LEGAL, ids=lambda path: path.stem)
def test_a_legal_script_is_not_flagged(path: Path) -> None:
    verdict = judge(path)
    assert verdict.flagged == [], "\n".join(verdict.lines())
    outcomes = {finding.rule: finding.outcome for finding in verdict.findings}
    assert outcomes["V1"] == outcomes["V2"] == "pass"  # and not for want of anything to judge


@pytest.mark.parametrize("path", ILLEGAL, ids=lambda path: path.stem)
def test_an_illegal_script_is_flagged(path: Path) -> None:
    verdict = judge(path)
    named = re.search(r"Breaks (V\d+)", path.read_text()[:500])
    wanted = named.group(1) if named else None
    assert verdict.flagged, "\n".join(verdict.lines())
    assert wanted is None or wanted in verdict.flagged, "\n".join(verdict.lines())
    length = len(path.read_text().splitlines())
    for finding in verdict.findings:
        if finding.outcome == "flag":
            assert finding.lines
            assert all(1 <= line <= length for line in finding.lines)


def test_the_lines_are_those_of_the_update_and_of_the_score() -> None:
    path = FOLDER / "illegal_update_first_in_chunk.py"
    lines = path.read_text().splitlines()
    finding = next(finding for finding in judge(path).findings if finding.rule == "V2")
    assert [lines[line - 1].strip() for line in finding.lines] == [
        "loss.backward()",
        "loss_sum += model(x, y).item() * y.numel()",
    ]


def test_what_is_off_by_default_is_unknown_and_says_how_to_turn_it_on(tmp_path: Path) -> None:
    text = (FOLDER / "illegal_function_adamw.py").read_text()
    guarded = text.replace(
        "    fit(model, val_tokens)\n",
        '    if int(os.environ.get("TTT_ENABLED", "0")):\n        fit(model, val_tokens)\n',
    )
    assert guarded != text
    script = tmp_path / "train_gpt.py"
    script.write_text(guarded)
    verdict = judge(script)
    finding = next(finding for finding in verdict.findings if finding.rule == "V1")
    assert verdict.flagged == []
    assert finding.outcome == "unknown"
    assert "TTT_ENABLED" in finding.text
    script.write_text(guarded.replace('"TTT_ENABLED", "0"', '"TTT_ENABLED", "1"'))
    assert judge(script).flagged == ["V1"]
    script.write_text(guarded)
    assert judge(script, environment={"TTT_ENABLED": "1"}).flagged == ["V1"]
    outcomes = {found.rule: found.outcome for found in judge(script, environment={"TTT_ENABLED": "0"}).findings}
    assert outcomes["V1"] == "pass"


def test_tokens_that_are_chosen_by_a_setting_stand_behind_it_wherever_they_go(tmp_path: Path) -> None:
    text = (FOLDER / "legal_gptq_on_training_tokens.py").read_text()
    script = tmp_path / "train_gpt.py"
    chosen = text.replace(
        "    calib = read_all(TRAIN_FILES)\n",
        '    calib = read_all(TRAIN_FILES)\n    if int(os.environ.get("CALIB_ON_VAL", "0")):\n'
        "        calib = read_all(VAL_FILES)\n",
    )
    assert chosen != text
    script.write_text(chosen)
    verdict = judge(script)
    assert verdict.flagged == []
    assert verdict.findings[0].outcome == "unknown"
    assert "CALIB_ON_VAL" in verdict.findings[0].text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print('hello')\n", "no validation tokens"),
        ("val_tokens = load()\nexec(input())\n", "made at run time"),
    ],
)
def test_what_cannot_be_judged_is_unknown(tmp_path: Path, text: str, reason: str) -> None:
    script = tmp_path / "train_gpt.py"
    script.write_text(text)
    finding = judge(script).findings[0]
    assert finding.outcome == "unknown"
    assert reason in finding.text


def test_a_script_that_is_too_large_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("golf_fast.audit.script.machine.MOST_STEPS", 100)
    outcomes = {finding.rule: finding.outcome for finding in judge(FOLDER / "illegal_function_adamw.py").findings}
    assert outcomes["V1"] == outcomes["V2"] == outcomes["V8"] == "unknown"


def test_a_file_of_functions_is_judged_by_the_names_of_their_parameters(tmp_path: Path) -> None:
    script = tmp_path / "module.py"
    script.write_text(
        "import math\nimport torch\n\n\ndef run(model, val_tokens, optimizer):\n"
        "    loss = model(val_tokens[:-1], val_tokens[1:])\n    loss.backward()\n    optimizer.step()\n"
        "    return model(val_tokens[:-1], val_tokens[1:]).item() / math.log(2)\n"
    )
    assert judge(script).flagged == ["V1"]


def test_statistics_are_no_second_score() -> None:
    """What a hook adds up is a calibration (V1); the score is the sum that becomes bits per byte."""
    assert judge(FOLDER / "illegal_statistics_of_activations.py").flagged == ["V1"]


def test_a_loop_that_stops_at_a_number_leaves_the_split_open(tmp_path: Path) -> None:
    text = (FOLDER / "legal_one_pass_for_score_and_step.py").read_text()
    line = "    piece = stream[at : at + SEQ + 1]\n"
    assert line in text
    path = tmp_path / "script.py"
    path.write_text(text.replace(line, "    if at > 4096:\n        break\n" + line))
    assert {each.rule: each.outcome for each in judge(path).findings}["V8"] == "unknown"


def test_tables_that_are_counted_in_the_loop_that_scores_are_left_open_where_they_may_have_the_chunk(
    tmp_path: Path,
) -> None:
    text = (FOLDER / "legal_pairs_of_what_was_scored.py").read_text()
    counted = "        pairs.index_put_((x, y), torch.ones(len(y)), accumulate=True)\n"
    first = "        after = pairs / pairs.sum(1, keepdim=True)\n"
    assert counted in text
    assert first in text
    path = tmp_path / "script.py"
    path.write_text(text.replace(counted, "").replace(first, counted + first))
    assert {each.rule: each.outcome for each in judge(path).findings}["V1"] == "unknown"
