"""The page of a run: whole in itself, equal for equal files, with everything escaped."""

import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golf_fast.errors import InputError
from golf_fast.pipeline.outcome import gains
from golf_fast.report import RunLog, plots, write_html
from golf_fast.rules import VIOLATIONS
from golf_fast.runs import Result

RESULT = Result(
    run_id="run <1>",
    recipe="tiny",
    seed=1,
    params=1234567,
    steps=40,
    train_seconds=4.0,
    tokens_per_second=1e5,
    val_loss=2.0,
    val_bpb=1.23456,
    val_tokens=1000,
    val_bytes=2000,
    bpb_before_compression=1.5,
    bpb_without_ttt=1.3,
    artifact_bytes=900,
    code_bytes=100,
    track="B",
    violations=[],
    eval_seconds=2.0,
    device="cpu",
    world_size=1,
    versions={"torch": "2"},
    data_fingerprint="<script>alert(1)</script>",
    backends={"relu2_mlp": {"name": "reference", "reason": "no <b>GPU</b> & no more"}},
    compute_dtype="float32",
    recompiles=0,
    peak_memory_bytes=1,
    finished=True,
    artifact_parts={"tok_emb": 700, "a & <b> $x$": 200},
    baselines={"zstd-22": 2.25},
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Collects the tags, ids and texts of a page, and holds that its tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id" and value is not None]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def leave(run_dir: Path, result: Result = RESULT) -> Path:
    """What a run leaves behind."""
    config: dict[str, Any] = {"recipe": "tiny", "train": {"seed": 1, "note": "<i>"}, "data": {"text": None}}
    origins = {
        "recipe": "recipe",
        "train.seed": "environment SEED",
        "train.note": "command line",
        "data.text": "recipe",
    }
    with RunLog(run_dir, main=True) as log:
        for step in range(1, 41):
            loss = float("nan") if step == 7 else 5.0 - step / 20
            log.metric(kind="train", step=step, seconds=step / 10, loss=loss, lr_factor=1 - step / 40, momentum=0.9)
        log.metric(kind="val", step=20, loss=4.5, bpb=2.5)
        log.metric(kind="stage", name="compress <all>", seconds=1.25, bytes=15913048, bpb=None)
    (run_dir / "config.json").write_text(json.dumps({"config": config, "origins": origins}))
    np.linspace(4, 2, 5000, dtype="<f4").tofile(run_dir / "token_losses")
    result.write(run_dir / "result.json")
    return run_dir


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_html(leave(tmp_path_factory.mktemp("run"))).read_text(encoding="utf-8")


def test_it_is_well_formed_and_has_all_plots(page: str) -> None:
    reader = Reader(page)
    assert reader.tags.count("svg") == 4
    assert len(reader.ids) > 0
    for title in (
        "Training, by time",
        "Training, by step",
        "Loss along the validation tokens",
        "Bytes of the submission",
    ):
        assert title in reader.texts
    for label in ("training loss, nats a token", "validation loss", "learning-rate factor", "seconds of training"):
        assert label in reader.texts, "text stays text in the plots"


def test_values_are_shown_and_escaped(page: str) -> None:
    reader = Reader(page)
    for text in ("run <1>", "1.2346", "15,913,048", "compress <all>", "1,234,567", "byte compressor: zstd-22", "legal"):
        assert text in reader.texts, text
    assert "<script>alert(1)</script>" in reader.texts
    assert "a & <b> $x$" in reader.texts
    assert "relu2_mlp: reference (no <b>GPU</b> & no more)" in reader.texts
    assert "environment SEED" in reader.texts
    assert not {"script", "b", "i"} & set(reader.tags)


def test_a_browser_is_told_to_run_and_load_nothing(page: str) -> None:
    attributes = Reader(page).attributes
    place = attributes.index(("http-equiv", "Content-Security-Policy"))
    rules = str(attributes[place + 1][1]).split("; ")
    assert rules == ["default-src 'none'", "style-src 'unsafe-inline'", "base-uri 'none'", "form-action 'none'"]
    assert page.index("Content-Security-Policy") < page.index("<style>"), "it counts for what comes after it"


def test_values_of_any_kind_make_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of another version, or from somebody else, may hold anything that is JSON."""
    for plot in ("training", "token_losses", "parts"):
        monkeypatch.setattr(plots, plot, lambda *_: "")
    leave(tmp_path)
    paths = [tmp_path / name for name in ("result.json", "config.json")]
    wholes = [json.loads(path.read_text()) for path in paths]
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()[-2:]]
    records.append({"kind": "tensor", "name": "a", "elements": 1, "bits": 1.0, "bpb_change": 0.1})
    records.append({"kind": "compression", "name": "a", "bytes": 1, "bpb": 1.0})
    for value in (None, True, 1e308, "<script>", [1], {"a": [1]}):
        for path, whole in zip(paths, wholes, strict=True):
            for key in whole:
                path.write_text(json.dumps({**whole, key: value}))
                assert "<script>" not in write_html(tmp_path).read_text()
            path.write_text(json.dumps(whole))
        changed = [{**record, key: value} for record in records for key in record if key != "kind"]
        (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, changed)))
        write_html(tmp_path)


def test_nothing_is_fetched(page: str) -> None:
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page
    references = [value for name, value in Reader(page).attributes if name in {"src", "href", "xlink:href"}]
    assert references
    assert all(value and value.startswith("#") for value in references)


def test_the_plots_take_their_colours_from_the_page(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    for name in ("--ink", "--muted", "--grid", "--first", "--second"):
        assert f"var({name})" in page[page.index("<svg") :]
    assert not any(f"#0{digit}0{digit}0{digit}" in page for digit in "12345"), "a stand-in colour is left"


def test_equal_files_give_equal_pages(tmp_path: Path, page: str) -> None:
    program = (
        "import sys; from pathlib import Path; from golf_fast.report import write_html; write_html(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(leave(tmp_path))], check=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_an_illegal_run_says_so(tmp_path: Path) -> None:
    result = replace(RESULT, violations=["V1"], artifact_bytes=16_000_000)
    texts = Reader(write_html(leave(tmp_path, result)).read_text()).texts
    assert "Not legal. This run breaks V1." in texts
    assert "not legal" in texts
    assert "V1: train, then score" in texts
    assert VIOLATIONS["V1"].text in texts
    assert "100 bytes too many" in texts


def test_what_was_not_judged_is_said(tmp_path: Path) -> None:
    result = replace(RESULT, not_judged=["V9, V11: training had no <limit> of time"])
    texts = Reader(write_html(leave(tmp_path, result)).read_text()).texts
    assert "not judged" in texts
    assert "V9, V11: training had no <limit> of time" in texts


def test_the_gain_of_adapting_is_drawn_where_it_was_recorded(tmp_path: Path) -> None:
    leave(tmp_path)
    with RunLog(tmp_path, main=True) as log:
        for stretch in gains(np.linspace(4, 2, 5000, dtype="<f4"), np.linspace(4, 1, 5000, dtype="<f4")):
            log.metric(kind="gain", **stretch)
    texts = Reader(write_html(tmp_path).read_text()).texts
    assert "What adapting gained along the stream" in texts
    assert "nats a token gained" in texts


def test_stretches_of_the_gain_are_the_whole_stream() -> None:
    found = gains(np.full(1000, 3, np.float32), np.arange(1000, dtype=np.float32))
    assert len(found) == 256
    assert [each["start"] for each in found[1:]] == [each["stop"] for each in found[:-1]]
    assert sum((each["stop"] - each["start"]) * each["adapting"] for each in found) == 499500
    assert {each["fixed"] for each in found} == {3.0}
    assert len(gains(np.ones(3, np.float32), np.ones(3, np.float32))) == 3


def test_a_run_that_was_cut_short_has_a_page(tmp_path: Path) -> None:
    leave(tmp_path)
    for name in ("result.json", "config.json", "token_losses"):
        (tmp_path / name).unlink()
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-20])
    reader = Reader(write_html(tmp_path).read_text())
    assert reader.tags.count("svg") == 2
    assert any("not finished" in text for text in reader.texts)


def test_an_empty_folder_has_a_page_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert "svg" not in Reader(write_html(tmp_path).read_text()).tags
    with pytest.raises(InputError, match="is no folder"):
        write_html(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_file_that_is_not_json_is_refused_and_the_old_page_stays(tmp_path: Path, name: str) -> None:
    before = write_html(leave(tmp_path)).read_bytes()
    (tmp_path / name).write_text("{")
    with pytest.raises(InputError, match=name):
        write_html(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


def test_matplotlib_is_imported_for_the_page_alone() -> None:
    program = "import sys, golf_fast.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_picture_that_fails_costs_the_picture_and_not_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_text('{"run_id": "odd \\udce9 \\u001b[1m", "artifact_parts": {"a": 1}}')
    (tmp_path / "token_losses").write_bytes(bytes(8))
    monkeypatch.setattr(plots, "parts", lambda *_: (_ for _ in ()).throw(ValueError("<no> font")))
    text = write_html(tmp_path).read_text()
    assert "<p>It could not be drawn (ValueError: &lt;no&gt; font).</p>" in text
    assert "<svg" in text, "the others are there"
