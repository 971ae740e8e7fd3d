"""The command line: what goes before what, what is said, and how it refuses. Its flags are frozen in command_line.txt.

After a change that is meant, renew that file from the repository's root:
`python tests/test_command_line.py > tests/command_line.txt`.
"""

import os
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

from golf_fast.command_line import Parsed, _help_on_recipes, field_names, flag_names, parse
from golf_fast.environment import VARIABLES
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES

FROZEN = Path(__file__).with_name("command_line.txt")


def run(*argv: str, **environ: str) -> Parsed:
    return parse(argv, environ, prog="prog", default_recipe=lambda: ("tiny", "torch sees no GPU"))


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(InputError) as raised:
        run(*argv, **environ)
    assert "\n" not in str(raised.value)
    assert not re.search("[╭│╰]|--$", str(raised.value)), "the frame of a box"
    return str(raised.value)


def listing() -> str:
    """Every flag with its default in each recipe."""
    recipes = {name: make() for name, make in RECIPES.items()}
    lines = []
    for field in field_names():
        lines.append(", ".join(flag_names(field)))
        defaults = {name: str(attrgetter(field)(recipe)) for name, recipe in recipes.items()}
        same = len(set(defaults.values())) == 1
        lines += (
            [f"    all: {defaults['seed']}"] if same else [f"    {name}: {text}" for name, text in defaults.items()]
        )
    return "\n".join(lines) + "\n"


def test_the_command_line_is_the_frozen_one() -> None:
    assert listing() == FROZEN.read_text(encoding="utf-8"), (
        "renew it as the docstring of this file says, if it is meant"
    )


def test_help_shows_every_flag_recipe_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("base", "--help")
    captured = capsys.readouterr()
    assert stop.value.code == 0
    assert captured.err == ""
    flags = [flag for field in field_names() for flag in flag_names(field)]
    framed = "\n".join(line for line in captured.out.splitlines() if re.match(r"[│|]? {1,2}-", line))
    assert sorted(re.findall(r"--[a-z][\w.-]*", framed)) == sorted([*flags, "--help"])
    for stage in ("model", "data", "train", "compress", "score"):
        assert f" {stage} options " in captured.out
    for name in RECIPES:
        assert re.search(rf"^  {name}  +\S.*$", captured.out, re.MULTILINE), name
    for variable in VARIABLES:
        assert re.search(rf"^  {variable.name}  +{flag_names(variable.fields[0])[0]}", captured.out, re.MULTILINE)
    assert "those of base" in captured.out
    assert "RECIPE" in captured.out.splitlines()[0]


def test_every_flag_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    helps = re.split(r"^[│|]? {1,2}--(?=[a-z])", capsys.readouterr().out, flags=re.MULTILINE)[1:]
    assert len(helps) == len(field_names())
    silent = [text.split()[0] for text in helps if text.split("\n")[1].strip("│| ").startswith("(default")]
    assert silent == []


def test_help_is_printed_by_the_first_rank_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("--help", RANK="1")
    assert stop.value.code == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_alone_is_that_recipe(name: str) -> None:
    parsed = run(name)
    assert parsed.config == RECIPES[name]()
    assert type(parsed.config).__name__ == "RunConfig"
    assert parsed.config.recipe == name
    assert parsed.lines == [f"recipe: {name} (command line)"]
    assert set(parsed.origins.values()) == {"recipe"}
    assert tuple(parsed.origins) == field_names()


def test_without_a_recipe_the_choice_is_said_with_its_reason() -> None:
    parsed = run("--seed", "7")
    assert parsed.config.recipe == "tiny"
    assert parsed.lines == ["recipe: tiny (torch sees no GPU)", "seed = 7 (command line; recipe: 42)"]


def test_command_line_before_environment_before_recipe() -> None:
    parsed = run("seed", "--train.max-seconds", "60", MAX_WALLCLOCK_SECONDS="300", ITERATIONS="5")
    assert parsed.config.train.max_seconds == 60
    assert parsed.config.train.max_steps == 5
    assert parsed.lines[1:] == [
        "train.max_seconds = 60 (command line; environment MAX_WALLCLOCK_SECONDS: 300; recipe: 600)",
        "train.max_steps = 5 (environment ITERATIONS; recipe: 20000)",
    ]
    assert parsed.origins["train.max_seconds"] == "command line"
    assert parsed.origins["train.max_steps"] == "environment ITERATIONS"
    assert parsed.origins["train.beta1"] == "recipe"


def test_a_flag_that_repeats_the_recipe_still_beats_the_environment() -> None:
    parsed = run("seed", "--seed=42", SEED="1")
    assert parsed.config.seed == 42
    assert parsed.origins["seed"] == "command line"
    assert parsed.lines == ["recipe: seed (command line)"]


def test_lists_of_numbers_are_taken_and_shown() -> None:
    parsed = run("seed", "--train.seq-growth", "512", "1024", "--train.seq-growth-until", "0.1", "0.7")
    assert parsed.config.train.seq_lens == (512, 1024, 2048)
    assert parsed.lines[1:] == [
        "train.seq_growth = 512,1024 (command line; recipe: none)",
        "train.seq_growth_until = 0.1,0.7 (command line; recipe: none)",
    ]


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--train.max_seconds", "5"], "train.max_seconds", 5.0),
        (["--train.no-ema"], "train.ema", False),
        (["--score.allow-illegal"], "score.allow_illegal", True),
        (["--data.text", "some folder"], "data.text", Path("some folder")),
        (["--compress.fp16-keep", "a", "b"], "compress.fp16_keep", ("a", "b")),
        (["--compress.fp16-keep"], "compress.fp16_keep", ()),
        (["--train.table-weight-decay", "0.085"], "train.table_weight_decay", 0.085),
        (["--train.table-weight-decay", "None"], "train.table_weight_decay", None),
        (["--model.backout-layer", "-1"], "model.backout_layer", -1),
        (["--compress.mlp-bits", "6"], "compress.mlp_bits", 6),
    ],
)
def test_flags(argv: list[str], field: str, value: object) -> None:
    parsed = run("seed", *argv)
    assert attrgetter(field)(parsed.config) == value
    assert parsed.origins[field] == "command line"


def test_only_the_values_in_force_are_checked_and_all_together() -> None:
    # 1000 tokens do not fill the recipe's rows; with the flags they do.
    flags = ("--train.seq-len", "125", "--train.micro-batches", "8")
    assert run("tiny", *flags, TRAIN_BATCH_TOKENS="1000").config.train.batch_tokens == 1000
    message = refusal("tiny", TRAIN_BATCH_TOKENS="1000")
    assert message.startswith("train.batch_tokens is 1000: it must be a multiple of")
    assert message.endswith("(environment: TRAIN_BATCH_TOKENS=1000)")


def test_a_wrong_environment_value_that_a_flag_replaces_is_still_refused() -> None:
    assert "environment SEED is 'x'" in refusal("--seed", "1", SEED="x")


def test_what_config_json_holds() -> None:
    held = run("tiny", "--train.no-ema").as_dict()
    assert held["config"]["train"]["ema"] is False
    assert held["config"]["data"]["text"] is None
    assert held["origins"]["train.ema"] == "command line"


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["sed"], ["sed: no such recipe", "tiny, base, seed, seed_as_published", "did you mean seed"]),
        (["seed", "--train.max-secs", "3"], ["--train.max-secs: no such flag", "--train.max-seconds"]),
        (["seed", "--max-seconds=3"], ["--max-seconds: no such flag; did you mean --train.max-seconds"]),
        (["--ttt-lr", "3"], ["did you mean --score.ttt-lr"]),
        (["--train.max-seconds", "3", "seed"], ["seed: not expected here; the recipe is the first argument"]),
        (["--recipe", "seed"], ["--recipe: not expected here; the recipe is the first argument"]),
        (["--train.ema", "True"], ["True: not expected here"]),
        (["--qqqq"], ["--qqqq: no such flag; prog --help shows all"]),
        (["--train.max-steps", "x"], ["--train.max-steps", "'x'"]),
        (["--train.max-steps"], ["--train.max-steps", "Missing value"]),
        (["--device", "tpu"], ["--device", "'tpu'", "'auto', 'cpu', 'cuda'"]),
        (["--train.beta1", "1.5"], ["train.beta1 is 1.5: it must be at least 0 and below 1"]),
        (["--run-id", "a/b"], ["run_id is 'a/b': it must be a plain name"]),
    ],
)
def test_refusals_are_one_line(argv: list[str], parts: list[str]) -> None:
    message = refusal(*argv)
    for part in parts:
        assert part in message


def test_refusals_do_not_depend_on_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = refusal("--train.max-steps", "x")
    monkeypatch.setenv("COLUMNS", "40")
    assert refusal("--train.max-steps", "x") == wide


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_program_ends_with_2_and_one_line(encoding: str) -> None:
    program = (
        "import sys; from golf_fast.command_line import parse; from golf_fast.console import exit_with;"
        "exit_with(lambda: print(parse(sys.argv[1:], {}, prog='p', default_recipe=lambda: ('tiny', ''))))"
    )
    for flag, text in (
        ("--score.stride=0", "score.stride is 0: it must be more than 0 and finite"),
        ("--seed=x", "--seed is 'x': it must be a whole number"),
    ):
        command = [sys.executable, "-c", program, "seed", flag]
        environ = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {text}\n")


if __name__ == "__main__":
    sys.stdout.write(listing())


def test_the_help_does_without_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under python -OO, which keeps none."""
    for name, make in RECIPES.items():
        monkeypatch.setitem(RECIPES, name, lambda make=make: make())
    said = _help_on_recipes(80).splitlines()
    assert [line.strip() for line in said] == ["Recipes:", *RECIPES]
