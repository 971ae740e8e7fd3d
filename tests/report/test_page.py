"""The page of a run: whole in itself, equal for equal files, with everything escaped."""

import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.left_behind import RESULT, leave

from golf_fast.errors import InputError
from golf_fast.pipeline.documents import gains
from golf_fast.report import RunLog, plots, write_html, write_pictures
from golf_fast.rules import VIOLATIONS

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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_html(leave(tmp_path_factory.mktemp("run"))).read_text(encoding="utf-8")


def test_it_is_well_formed_and_has_all_plots(page: str) -> None:
    reader = Reader(page)
    assert reader.tags.count("svg") == 8
    assert len(reader.ids) > 0
    for title in (
        "Training, by time",
        "Training, by step",
        "Learning rates and momentum",
        "Loss along the validation tokens",
        "What adapting gained along the stream",
        "Bytes of the submission",
        "Bits a weight, by layer",
        "Error of quantization, by layer",
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


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are made in a moment, for tests of what else is on them."""
    for plot in plots.__all__:
        monkeypatch.setattr(plots, plot, lambda *_: "")


@pytest.mark.usefixtures("without_plots")
def test_values_of_any_kind_make_a_page(tmp_path: Path) -> None:
    """Files of another version, or from somebody else, may hold anything that is JSON."""
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
    assert not any(f"#0{digit}0{digit}0{digit}" in page for digit in "123456789abc"), "a stand-in colour is left"


def test_equal_files_give_equal_pages(tmp_path: Path, page: str) -> None:
    program = (
        "import sys; from pathlib import Path; from golf_fast.report import write_html; write_html(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(leave(tmp_path))], check=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.usefixtures("without_plots")
def test_an_illegal_run_says_so(tmp_path: Path) -> None:
    result = replace(RESULT, violations=["V1"], artifact_bytes=16_000_000)
    texts = Reader(write_html(leave(tmp_path, result)).read_text()).texts
    assert "Not legal. This run breaks V1." in texts
    assert "not legal" in texts
    assert "V1: train, then score" in texts
    assert VIOLATIONS["V1"].text in texts
    assert "100 bytes too many" in texts


@pytest.mark.usefixtures("without_plots")
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


def test_a_run_that_was_cut_short_has_a_page(tmp_path: Path) -> None:
    leave(tmp_path)
    for name in ("result.json", "config.json", "token_losses", "schedule.json", "documents.json", "audit.json"):
        (tmp_path / name).unlink()
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:60])[:-20])
    reader = Reader(write_html(tmp_path).read_text())
    assert reader.tags.count("svg") == 2
    assert any("not finished" in text for text in reader.texts)


def test_a_folder_of_no_run_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match=r"has no config\.json; name the directory of a run"):
        write_html(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="is no folder"):
        write_html(tmp_path / "nothing")


@pytest.mark.usefixtures("without_plots")
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


def test_every_plot_says_what_it_shows(page: str) -> None:
    labels = [value for name, value in Reader(page).attributes if name == "aria-label"]
    assert len(labels) == 8
    assert "Adapting gained 0.4550 nats a token over 6,000 validation tokens." in labels
    assert any(label and "from 4.950 to 3.000 nats a token" in label for label in labels)


def test_documents_are_shown_token_by_token_with_both_losses(page: str) -> None:
    reader = Reader(page)
    tips = [value for name, value in reader.attributes if name == "data-tip"]
    losses = np.linspace(4, 2, 6000, dtype="<f4")
    assert tips[0] == f"“ the”  {losses[100]:.2f} nats, before adapting {losses[100] + 0.25:.2f}"
    assert tips[6] == f"“ the”  {losses[4500]:.2f} nats, before adapting {losses[4500] + 0.25:.2f}"
    assert len(tips) == 12
    bpb = losses[100:2000].sum(dtype="f8") / np.log(2) / 5000
    assert any(f"the hardest: document 2 · {bpb:.3f} bits per byte" in text for text in reader.texts)
    assert "</span><script>" in reader.texts
    assert "script" not in reader.tags


@pytest.mark.usefixtures("without_plots")
def test_an_audit_that_was_left_is_shown(tmp_path: Path) -> None:
    leave(tmp_path)
    assert "ledger.jsonl: <all> in order" in Reader(write_html(tmp_path).read_text()).texts
    (tmp_path / "audit.json").write_text('{"flagged": ["V1"], "checks": 3}')
    assert "An audit flagged V1." in Reader(write_html(tmp_path).read_text()).texts
    (tmp_path / "audit.json").write_text("{")
    assert any("The audit cannot be shown" in text for text in Reader(write_html(tmp_path).read_text()).texts)
    (tmp_path / "audit.json").unlink()
    assert "python -m golf_fast.audit" in write_html(tmp_path).read_text()


@pytest.mark.usefixtures("without_plots")
def test_damaged_documents_cost_their_section(tmp_path: Path) -> None:
    leave(tmp_path)
    (tmp_path / "documents.json").write_text('{"starts": [5]}')
    assert any("They cannot be shown" in text for text in Reader(write_html(tmp_path).read_text()).texts)


def test_pictures_stand_beside_the_page(tmp_path: Path) -> None:
    written = write_pictures(leave(tmp_path))
    assert [path.parent for path in written] == [tmp_path / "plots"] * 8
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    assert write_pictures(tmp_path / "begun") == []
