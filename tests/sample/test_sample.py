"""Text from a model: the cache changes no token, a seed fixes the draws, and bad input ends in one line."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from golf_fast.checks import for_file
from golf_fast.compress import quantize, write_artifact
from golf_fast.config import CompressConfig, ModelConfig
from golf_fast.console import Stream, exit_with
from golf_fast.data import Tokenizer
from golf_fast.data.tokenizer import train_tokenizer
from golf_fast.errors import InputError
from golf_fast.model import GPT, upstream
from golf_fast.sample import Sampling, generate
from golf_fast.sample.__main__ import as_text, main
from golf_fast.sample.generate import draw

MODEL = ModelConfig(vocab_size=300, dim=16, layers=4, heads=2, kv_heads=1, bigram_buckets=31, bigram_dim=8)
SENTENCES = [f"Line {n} of a text, with {n * n} words é çà et là." for n in range(80)]


def model_of(config: ModelConfig) -> GPT:
    model = GPT(config, seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with its tokenizer beside it."""
    folder = tmp_path_factory.mktemp("sample")
    train_tokenizer(SENTENCES, MODEL.vocab_size, folder / "tokenizer.model")
    settings = CompressConfig()
    weights = quantize(upstream.export(model_of(MODEL)), settings)
    write_artifact(folder / "artifact.golf", weights, for_file(MODEL), **settings.coding())
    return folder / "artifact.golf"


@pytest.mark.parametrize("window", [(0,), (6,), (3, 0, 9, 2)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_cache_changes_no_token(window: tuple[int, ...], temperature: float) -> None:
    model = model_of(dataclasses.replace(MODEL, window=window, tied_embeddings=False)).double()
    model.compute_dtype = torch.float64
    sampling = Sampling(max_tokens=30, temperature=temperature, top_p=0.9, seed=5)
    cached = list(generate(model, [1, 7, 7, 20], sampling))
    assert cached == list(generate(model, [1, 7, 7, 20], sampling, cached=False))
    assert len(cached) == 30
    assert len(set(cached)) > 3


def test_a_seed_fixes_the_draws() -> None:
    model = model_of(MODEL)
    first, second, other = (list(generate(model, [1], Sampling(20, 1.0, 1.0, seed))) for seed in (4, 4, 5))
    assert first == second != other


def test_the_text_ends_at_the_stop_token() -> None:
    model, sampling = model_of(MODEL), Sampling(30, 0.0)
    whole = list(generate(model, [1], sampling))
    assert list(generate(model, [1], sampling, stop=whole[4])) == whole[: whole.index(whole[4])]


def test_draws_are_from_the_nucleus_in_proportion() -> None:
    logits = torch.tensor([0.1, 0.5, 0.25, 0.15]).log()
    counts = {}
    for top_p in (0.5, 0.7, 0.8, 1.0):
        generator = torch.Generator().manual_seed(0)
        drawn = [draw(logits, Sampling(1, 1.0, top_p), generator) for _ in range(2000)]
        counts[top_p] = [drawn.count(token) / 2000 for token in range(4)]
    assert counts[0.5] == [0, 1, 0, 0]
    assert counts[0.7] == pytest.approx([0, 2 / 3, 1 / 3, 0], abs=0.03)
    assert counts[0.8] == pytest.approx([0, 5 / 9, 2.5 / 9, 1.5 / 9], abs=0.03)
    assert counts[1.0] == pytest.approx([0.1, 0.5, 0.25, 0.15], abs=0.03)
    colder = [draw(logits, Sampling(1, 0.5, 1.0), torch.Generator().manual_seed(n)) for n in range(1000)]
    assert colder.count(1) / 1000 == pytest.approx(0.25 / (0.01 + 0.25 + 0.0625 + 0.0225), abs=0.05)


def test_text_comes_piece_by_piece_and_whole(artifact: Path) -> None:
    spoken = Tokenizer(artifact.parent / "tokenizer.model")
    for text in ("Line 9 é là", " a space before", "日本 ▁ \N{GRINNING FACE}", ""):
        pieces = list(as_text(spoken, iter(spoken.encode(text))))
        assert "".join(pieces) == text
        assert "\ufffd" not in "".join(pieces)
    assert len(list(as_text(spoken, iter(spoken.encode("Line 9 of a text"))))) > 3


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sample", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    return int(stop.value.code or 0)


def test_the_command_prints_the_prompt_and_goes_on(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--prompt", "Line 9", "--max-tokens", 20, "--device", "cpu"]
    said = []
    for seed in (1, 1, 2):
        assert run(monkeypatch, artifact, *flags, "--seed", seed) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("Line 9")
    assert len(said[0]) > len("Line 9") + 10


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_takes_no_orders_from_a_model(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(Stream, "isatty", lambda _: terminal)
    assert run(monkeypatch, artifact, "--prompt", "a\x1b[2Jb\tc\n", "--max-tokens", 1, "--device", "cpu") == 0
    assert capsys.readouterr().out.startswith("a\\x1b[2Jb\tc\n" if terminal else "a\x1b[2Jb\tc\n")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--temperature", -1], "temperature is -1.0: it must be 0 or more"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--top-p", 0], "top-p is 0.0: it must be more than 0 and at most 1"),
        (["--max-tokens", 0], "max-tokens is 0: it must be at least 1"),
        (["--tokenizer", "none.model"], "none.model: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[object],
    expected: str,
) -> None:
    assert run(monkeypatch, artifact, *flags, "--device", "cpu") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert expected in errors[0]


def test_an_artifact_needs_one_tokenizer(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "a" / "b" / "alone.golf"
    alone.parent.mkdir(parents=True)
    alone.write_bytes(artifact.read_bytes())
    assert run(monkeypatch, alone, "--device", "cpu") == 2
    assert "holds no tokenizer (*.model); name one with --tokenizer MODEL" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path / "none", "--device", "cpu") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(InputError):
        Sampling(top_p=1.5)
