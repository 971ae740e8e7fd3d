"""An ablation gets on record with all that it depends on, and into its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.results import result

from benchmarks import ablation, recipes, results
from benchmarks.report import rows
from golf_fast.ablate.variants import variants
from golf_fast.code_size import Code
from golf_fast.errors import InputError

PLACE = "before\n<!-- ablation tiny -->\n{}\n<!-- end of ablation tiny -->\nafter\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What an ablation of stand-ins leaves, and a place for the record."""
    made = Code(b"code")
    monkeypatch.setattr(recipes, "code", lambda config: made)
    monkeypatch.setenv(results.VARIABLE, str(tmp_path / "results"))
    out = tmp_path / "out"
    flags = ["--score.ttt=off"]
    for variant in variants("tiny", flags, ["ema"], ["wide: --model.dim 204"]):
        for seed in (5, 6, 7) if variant.name == "whole" else (5, 6):
            run = out / f"{variant.name}-{seed}"
            run.mkdir(parents=True)
            config = replace(variant.config, seed=seed, run_id=run.name, runs_dir=out)
            (run / "config.json").write_text(json.dumps({"config": config.as_dict(), "origins": {}}))
            bpb = 1.5 + seed / 100 + 0.01 * seed * (variant.name != "whole")
            replace(result(seed, bpb, bpb), code_hash=made.hash, device="x86 CPU, 2 threads").write(run / "result.json")
    (out / "ema-7").mkdir()  # cut short
    (out / "ablation.json").write_text(json.dumps({"flags": flags}))
    return out


def test_a_record_makes_the_table_of_its_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PLACE.format("old"))
    ablation.main([str(folder), "--page", str(page)])
    made = page.read_text()
    assert made.startswith("before\n<!-- ablation tiny -->\n40 steps each, seeds 5, 6; ")
    assert made.endswith("<!-- end of ablation tiny -->\nafter\n")
    assert "old" not in made
    command = "golf_fast.ablate tiny --drop ema --change 'wide: --model.dim=204' --steps 40 --seeds 2 --first-seed 5"
    assert f"python -m {command} -- --score.ttt=off\n" in made
    assert "| nothing | the recipe, 2 seeds | 1.5550 |" in made
    assert "| `ema` | the exponential average of the weights | 1.6100 | +0.0550 +- 0.0635 | +0.0500 +0.0600 |" in made
    record = tmp_path / "results" / "ablation_tiny.jsonl"
    runs = ablation.read(record)
    assert [(run.variant, run.seed) for run in runs] == [
        *(("whole", seed) for seed in (5, 6, 7)),
        *((name, seed) for name in ("ema", "wide") for seed in (5, 6)),
    ]
    assert runs[-1].changed == ["--model.dim=204"]
    assert runs[0].commit
    assert len(rows.read(record.parent)) == 7  # it stands beside the other measurements
    assert record.with_suffix(".svg").stat().st_size > 2000
    page.write_text(PLACE.format(""))
    ablation.main(["--page", str(page)])
    assert page.read_text() == made


def test_what_cannot_be_recorded_is_named(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no place")
    with pytest.raises(InputError, match=r"page\.md: has no place for the table, the lines <!-- ablation tiny -->"):
        ablation.main([str(folder), "--page", str(page)])
    held = json.loads((folder / "ema-5" / "result.json").read_text())
    (folder / "ema-5" / "result.json").write_text(json.dumps(held | {"steps": 41}))
    with pytest.raises(InputError, match="has runs of 40 and 41 steps"):
        ablation.recorded(folder)
    (folder / "ema-5" / "result.json").write_text(json.dumps(held | {"code_hash": "other"}))
    with pytest.raises(InputError, match="ema-5: was made by other code than this checkout's"):
        ablation.recorded(folder)
    with pytest.raises(InputError, match="the folder of an ablation is needed"):
        ablation.recorded(tmp_path)


def test_the_page_has_what_is_on_record() -> None:
    """As `python -m benchmarks ablation` makes it."""
    text = ablation.PAGE.read_text()
    for path in (Path(ablation.__file__).with_name("results")).glob("ablation_*.jsonl"):
        assert ablation.with_table(text, ablation.read(path), ablation.PAGE) == text
