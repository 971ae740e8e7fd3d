"""The command: a run directory is scored again as the library scores it, and bad input ends in one line."""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers import results

from golf_fast import score
from golf_fast.checks import for_file
from golf_fast.compress import dequantize, quantize, read_artifact, write_artifact
from golf_fast.config import CompressConfig, DataConfig, ModelConfig, RunConfig, ScoreConfig, TrainConfig
from golf_fast.console import exit_with
from golf_fast.data import Tokenizer, Validation, prepare, read_shard, write_shard
from golf_fast.data.tokenizer import train_tokenizer
from golf_fast.distributed import Ranks
from golf_fast.files import sha256
from golf_fast.model import GPT, upstream
from golf_fast.ops import backends
from golf_fast.score.__main__ import main

VOCABULARY = 270
MODEL = ModelConfig(vocab_size=VOCABULARY, dim=16, layers=2, heads=2, kv_heads=1, bigram_buckets=31, bigram_dim=8)
SCORE = ScoreConfig(window=16, stride=4, batch_windows=8, ttt_chunk_tokens=64, ttt_lr=0.05)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves behind, as far as scoring needs it."""
    folder = tmp_path_factory.mktemp("run")
    text = folder / "texts.jsonl"
    text.write_text("".join(json.dumps({"text": f"Line {n} of a text, {n * n} words."}) + "\n" for n in range(60)))
    data = DataConfig(source="text", text=text, built=folder / "built", val_fraction=0.3)
    config = RunConfig(model=MODEL, data=data, score=SCORE, train=TrainConfig(compute_dtype="float32"))
    dataset = prepare(data, VOCABULARY, has_gpu=False)
    shutil.copy(dataset.tokenizer_path, folder / "tokenizer.model")
    (folder / "config.json").write_text(json.dumps({"config": config.as_dict(), "origins": {}}))
    settings = CompressConfig()
    weights = quantize(upstream.export(GPT(MODEL, seed=3)), settings)
    write_artifact(folder / "artifact.golf", weights, dataclasses.asdict(MODEL), **settings.coding())
    record(folder, dataset.val_shards)
    return folder


def record(folder: Path, shards: list[Path]) -> None:
    """The result.json of a run that was scored on these shards, with the files that are in its directory."""
    dataclasses.replace(
        results.result(seed=42, bpb=1.0, plain=1.0),
        file_hashes={name: sha256(folder / name) for name in ("artifact.golf", "tokenizer.model")},
        validation_shards={str(path): sha256(path) for path in shards},
    ).write(folder / "result.json")


def expected(run_dir: Path, config: ScoreConfig, tokens: object = None) -> score.Score:
    model = GPT(MODEL)
    upstream.load(model, dequantize(read_artifact(run_dir / "artifact.golf").tensors))
    data = DataConfig(source="text", text=run_dir / "texts.jsonl", built=run_dir / "built", val_fraction=0.3)
    if tokens is None:
        tokens = prepare(data, VOCABULARY, has_gpu=False).val_tokens(config.window)
    return score.score_tokens(
        model, Validation.counted(tokens, Tokenizer(run_dir / "tokenizer.model").token_bytes()), config
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["score", *map(str, arguments)])
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    return int(stop.value.code or 0)


@pytest.mark.parametrize("ttt", ["chunked", "off"])
def test_a_run_is_scored_again(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ttt: str
) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    flags = [] if ttt == "chunked" else ["--ttt", "off"]
    assert run(monkeypatch, made, "--device", "cpu", *flags) == 0
    result = expected(made, dataclasses.replace(SCORE, ttt=ttt))  # type: ignore[arg-type]
    printed = capsys.readouterr().out.splitlines()[-1].split()
    assert printed[:5] == [
        ttt,
        f"{result.tokens:,}",
        f"{result.bytes:,}",
        f"{result.nats / result.tokens:.4f}",
        f"{result.bpb:.4f}",
    ]
    assert printed[5:7] == [result.track, "legal"]
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_another_shard_can_be_scored(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = torch.randint(5, VOCABULARY, (70,), generator=torch.Generator().manual_seed(1)).numpy().astype("uint16")
    write_shard(tmp_path / "other.bin", tokens)
    assert run(monkeypatch, made, "--device", "cpu", "--tokens", tmp_path / "other.bin") == 0
    assert f"{expected(made, SCORE, tokens[:65]).bpb:.4f}" in capsys.readouterr().out


def test_an_artifact_alone_is_scored_as_the_seed_is(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = torch.randint(5, VOCABULARY, (2300,), generator=torch.Generator().manual_seed(1)).numpy().astype("uint16")
    write_shard(tmp_path / "other.bin", tokens)
    alone = tmp_path / "imported.golf"
    shutil.copy(made / "artifact.golf", alone)
    flags = ["--tokens", tmp_path / "other.bin", "--tokenizer", made / "tokenizer.model", "--ttt", "off"]
    assert run(monkeypatch, alone, "--device", "cpu", *flags) == 0
    result = expected(made, ScoreConfig(ttt="off"), tokens[:2049])
    printed = capsys.readouterr().out.splitlines()[-1].split()
    assert printed[:2] == ["off", f"{result.tokens:,}"]
    assert printed[3:5] == [f"{result.nats / result.tokens:.4f}", f"{result.bpb:.4f}"]
    assert run(monkeypatch, alone, "--device", "cpu", *flags[:2]) == 2
    assert "imported.golf: an artifact without its run needs --tokens SHARD and" in capsys.readouterr().err


def test_a_folder_of_shards_is_joined_and_has_its_tokenizer_beside_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = torch.randint(5, VOCABULARY, (2300,), generator=torch.Generator().manual_seed(1)).numpy().astype("uint16")
    folder = tmp_path / "datasets" / "some"
    folder.mkdir(parents=True)
    (tmp_path / "tokenizers").mkdir()
    shutil.copy(made / "tokenizer.model", tmp_path / "tokenizers")
    flags = [made / "artifact.golf", "--device", "cpu", "--ttt", "off", "--data", folder]
    assert run(monkeypatch, *flags) == 2
    assert "some: none of its" in capsys.readouterr().err
    for n, part in enumerate((tokens[:1500], tokens[1500:])):
        write_shard(folder / f"some_val_{n:06d}.bin", part)
    write_shard(folder / "some_train_000000.bin", tokens)
    assert run(monkeypatch, *flags) == 0
    assert f"{expected(made, ScoreConfig(ttt='off'), tokens[:2049]).bpb:.4f}" in capsys.readouterr().out
    assert run(monkeypatch, *flags, "--tokens", folder / "some_val_000000.bin") == 2
    assert "name one of both" in capsys.readouterr().err
    shutil.copy(made / "tokenizer.model", tmp_path / "tokenizers" / "another.model")
    assert run(monkeypatch, *flags) == 2
    assert "holds 2 tokenizers; name the right one with --tokenizer MODEL" in capsys.readouterr().err


def test_a_model_with_windows_is_streamed_from_its_artifact(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = torch.randint(5, VOCABULARY, (4100,), generator=torch.Generator().manual_seed(1)).numpy().astype("uint16")
    write_shard(tmp_path / "long.bin", long)
    flags = ["--device", "cpu", "--tokens", tmp_path / "long.bin", "--tokenizer", made / "tokenizer.model"]
    assert run(monkeypatch, made / "artifact.golf", *flags, "--streaming") == 2
    assert "error: --streaming is True: model.window is (0,)" in capsys.readouterr().err
    windowed = dataclasses.replace(MODEL, window=(6, 9))
    settings = CompressConfig()
    weights = quantize(upstream.export(GPT(windowed, seed=3)), settings)
    write_artifact(tmp_path / "windowed.golf", weights, for_file(windowed), **settings.coding())
    printed = []
    for more in (["--streaming"], ["--ttt", "off"]):
        assert run(monkeypatch, tmp_path / "windowed.golf", *flags, *more) == 0
        printed.append(capsys.readouterr().out.splitlines()[-1].split())
    assert printed[0][1] == printed[1][1] == "4,096"
    assert abs(float(printed[0][4]) - float(printed[1][4])) < 2e-4


@pytest.fixture
def moved(made: Path, tmp_path: Path) -> Path:
    """A run directory to change, with its shard beside it."""
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    shard = tmp_path / "x_val_000000.bin"
    shutil.copy(next((made / "built").glob("*/text_val_000000.bin")), shard)
    record(folder, [shard])
    return folder


def other_tokenizer(path: Path) -> Path:
    train_tokenizer(["".join(chr(0x430 + n * 7 % 32) if n % 5 else " " for n in range(20000))], VOCABULARY, path)
    return path


def other_tokens(path: Path) -> Path:
    write_shard(path, read_shard(path)[::-1])
    return path


def test_a_run_is_scored_on_what_it_was_scored_on_though_its_text_grew(
    moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = expected(moved, dataclasses.replace(SCORE, ttt="off"))
    with (moved / "texts.jsonl").open("a") as file:
        file.write(json.dumps({"text": "QUITE ANOTHER TEXT " * 50}) + "\n")
    shutil.rmtree(moved / "built")
    assert run(monkeypatch, moved, "--device", "cpu", "--ttt", "off") == 0
    printed = capsys.readouterr().out
    assert f"{before.bpb:.4f}" in printed
    assert "legal" in printed.splitlines()[-1]
    assert not (moved / "built").exists(), "a score builds nothing"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: other_tokens(run.parent / "x_val_000000.bin"), "x_val_000000.bin: has SHA-256"),
        (lambda run: (run.parent / "x_val_000000.bin").unlink(), "x_val_000000.bin: cannot be read"),
        (lambda run: os.truncate(run.parent / "x_val_000000.bin", 1 << 40), "has 1099511627776 bytes; a shard has"),
        (lambda run: fifo(run.parent / "x_val_000000.bin"), "x_val_000000.bin: is a named pipe, not a file"),
        (lambda run: other_tokenizer(run / "tokenizer.model"), "tokenizer.model: has SHA-256"),
        (lambda run: (run / "artifact.golf").write_bytes(b"x"), "artifact.golf: has SHA-256"),
        (lambda run: fifo(run / "artifact.golf"), "artifact.golf: is a named pipe, not a file"),
        (
            lambda run: _change(run, "logit_softcap", 20.0, "model"),
            "model.logit_softcap is 20.0, but 30.0 in",
        ),
        (lambda run: (run / "result.json").unlink(), "result.json: cannot be read"),
        (lambda run: record(run, []), "result.json: names no validation shard"),
    ],
)
def test_what_is_not_as_the_run_recorded_is_refused(
    moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: object, said: str
) -> None:
    change(moved)  # type: ignore[operator]
    assert run(monkeypatch, moved, "--device", "cpu") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert said in errors[0]


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_other_tokens_and_tokenizers_are_said_where_they_are_asked_for(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "x_val_000000.bin"
    flags = ["--device", "cpu", "--ttt", "off"]
    assert run(monkeypatch, moved, *flags, "--tokens", own, "--tokenizer", moved / "tokenizer.model") == 0
    printed = capsys.readouterr().out
    assert "not the score of a run" not in printed
    assert "legal" in printed.splitlines()[-1], "named by hand, and the same"
    shutil.copy(own, tmp_path / "other.bin")
    for flag, path, what in (
        ("--tokens", other_tokens(tmp_path / "other.bin"), "is not what the run was scored on"),
        ("--tokenizer", other_tokenizer(tmp_path / "other.model"), "is not the tokenizer of the run"),
    ):
        assert run(monkeypatch, moved, *flags, flag, path) == 0
        printed = capsys.readouterr().out
        assert f"not the score of a run: {path} (SHA-256 {sha256(path)[:12]}) {what}" in printed
        assert "unverified" in printed.splitlines()[-1]
        assert "legal" not in printed.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dim": 16.0}, "model.dim is 16.0: it must be a whole number"),
        ({"layers": 10**6}, "model.layers is 1000000: it must be a finite number, at most 1024"),
        ({"layers": 1024, "dim": 65536}, "blocks.2.attn.c_q.weight is missing in the state dict"),
        ({"vocab_size": 65536}, "tok_emb.weight is (270, 16) in the state dict: the model's is (65536, 16)"),
        ({"logit_softcap": 1e308}, "model.logit_softcap is 1e+308"),
        ({"tied_embeddings": 1}, "model.tied_embeddings is 1: it must be true or false"),
        ({"rope_base": 1e-300}, "model.rope_base is 1e-300: it must be at least 1"),
        ({"unheard_of": 1}, "model.unheard_of is no field of this version"),
        ({"dim": None}, "model.dim is null"),
    ],
)
def test_the_configuration_in_an_artifact_is_read_strictly_and_nothing_is_made_of_a_wrong_one(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    said: str,
) -> None:
    artifact, shard = read_artifact(made / "artifact.golf"), next((made / "built").glob("*/text_val_000000.bin"))
    path = tmp_path / "a.golf"
    write_artifact(path, artifact.tensors, artifact.model_config | changes, codec="zstd", level=1)
    monkeypatch.setattr(GPT, "__init__", lambda *_, **__: pytest.fail("a model is made"))
    assert run(monkeypatch, path, "--tokens", shard, "--tokenizer", made / "tokenizer.model", "--device", "cpu") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert f"{path}: " in errors[0]
    assert said in errors[0]


@pytest.mark.parametrize("setting", ["auto", "on"])
def test_whether_scoring_is_compiled_is_said_and_ops_are_resolved_before(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(made, copy)
    _change(copy, "compile", setting)
    resolved: list[bool] = []

    def scored(model: GPT, *arguments: object, **more: object) -> score.Score:
        resolved.append(all((op, "cpu") in backends._decided for op in backends.registered()))
        return score.score_tokens(model, *arguments, **more)  # type: ignore[arg-type]

    backends.forget()
    monkeypatch.setattr("golf_fast.score.__main__.score_tokens", scored)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert run(monkeypatch, copy, "--device", "cpu", "--ttt", "off") == 0
    assert resolved == [True]
    said = {"auto": "no (auto, on cpu)", "on": "yes (on, on cpu)"}[setting]
    assert f"torch.compile in scoring: {said}" in capsys.readouterr().out.splitlines()


def test_an_impossible_backend_is_one_line(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(backends.VARIABLE, "relu2_mlp=none_such")
    backends.forget()
    try:
        assert run(monkeypatch, made, "--device", "cpu") == 2
    finally:
        backends.forget()
    assert "GOLF_FAST_BACKENDS asks for relu2_mlp=none_such" in capsys.readouterr().err


def test_a_gpu_does_not_run_a_reference_unasked(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As far as that shows without a GPU: the program takes the CPU for one, and ends before it computes."""
    slow = backends.Backend("reference", "plain PyTorch runs anywhere; not triton: Triton is not installed")
    monkeypatch.setattr(backends, "describe", lambda device: [("relu2_mlp", slow)])
    gpu = Ranks.single(torch.device("cuda"))
    monkeypatch.setattr(Ranks, "from_environment", lambda kind, **more: gpu)
    assert run(monkeypatch, made, "--device", "cpu") == 2
    assert "relu2_mlp has only its slow reference on this GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run_dir: (run_dir / "config.json").unlink(), "config.json: cannot be read"),
        (lambda run_dir: (run_dir / "config.json").write_text("{}"), "config.json: is not the configuration"),
        (lambda run_dir: (run_dir / "config.json").write_text('{"config": {}}'), "config.json: has no recipe"),
        (lambda run_dir: (run_dir / "artifact.golf").write_bytes(b"GOLFFAST" + bytes(90)), "artifact.golf: "),
        (lambda run_dir: (run_dir / "tokenizer.model").write_bytes(b"no model"), "tokenizer.model: "),
        (lambda run_dir: _change(run_dir, "stride", 99), "config.json: score.stride is 99"),
        (lambda run_dir: _change(run_dir, "stride", True), "config.json: score.stride is true"),
        (lambda run_dir: _change(run_dir, "ttt", "x"), 'config.json: score.ttt is "x": it must be one of "off", '),
        (lambda run_dir: _change(run_dir, "ttt_epochs", 10**9), "config.json: score.ttt_epochs is 1000000000"),
        (lambda run_dir: _change(run_dir, "compute_dtype", "Tensor", "train"), 'train.compute_dtype is "Tensor"'),
        (
            lambda run_dir: _change(run_dir, "unheard_of", 1),
            "config.json: score.unheard_of is no field",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: object,
    said: str,
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(made, copy)
    damage(copy)  # type: ignore[operator]
    assert run(monkeypatch, copy, "--device", "cpu") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert said in errors[0]


def _change(run_dir: Path, name: str, value: object, stage: str = "score") -> None:
    path = run_dir / "config.json"
    config = json.loads(path.read_text())
    config["config"][stage][name] = value
    path.write_text(json.dumps(config))
