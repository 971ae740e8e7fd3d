"""The command line of a run: the name of a recipe, a flag for every field, environment variables, and the origin of
each value."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

import tyro

from golf_fast.arguments import in_one_line
from golf_fast.config import RunConfig
from golf_fast.environment import VARIABLES, Setting, settings
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES

Config = TypeVar("Config", bound=Any)


@dataclass(frozen=True)
class Parsed:
    """The configuration of a run and the origin of its values.

    Attributes:
        config: the configuration.
        origins: for every dotted field, "command line", "environment NAME" or "recipe".
        lines: lines to print: the recipe with the reason for it, then every value that differs from the recipe.
    """

    config: RunConfig
    origins: dict[str, str]
    lines: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The content of `config.json`: the configuration as nested plain values, and the origins."""
        return {"config": self.config.as_dict(), "origins": self.origins}


_DEFAULT = RunConfig()
_ABOUT = "One run, from text to a scored artifact."
_RESUME = "--resume runs/RUN_ID goes on with a run that was cut short, where it was."


@dataclass(frozen=True)
class _Flags(RunConfig):
    """One run, from text to a scored artifact."""

    recipe: tyro.conf.Suppress[tyro.conf.Fixed[str]] = "seed"  # the first argument, not a flag


def parse(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    prog: str,
    default_recipe: Callable[[], tuple[str, str]],
) -> Parsed:
    """The configuration of a command line, whose flags override the environment, which overrides the recipe.

    Args:
        argv: the arguments after the program's name: optionally a recipe, then flags.
        environ: environment variables; `golf_fast.environment` lists those that are read.
        prog: how the program is called, for the help.
        default_recipe: returns the name of a recipe and the reason for it, if none is given.

    Raises:
        InputError: a recipe, flag or value is unknown or invalid, or values are inconsistent.
        SystemExit: with code 0, after the help was requested and printed.
    """
    arguments = list(argv)
    if arguments and not arguments[0].startswith("-"):
        name, reason = arguments.pop(0), "command line"
    else:
        name, reason = default_recipe()
    recipe = named(name)
    given = _fields_given(arguments)
    environment = settings(environ, recipe)
    added = {field: setting for field, setting in environment.items() if field not in given}
    if {"-h", "--help"} & set(arguments):
        _show_help(prog, name, recipe, quiet=environ.get("RANK", "0") != "0")
    # Values of the environment are added as flags, so that only the resulting values are checked, all together.
    flags = [flag for field, setting in added.items() for flag in as_flags(field, setting.value)]
    try:
        config = _from_flags([*arguments, *flags], recipe, prog)
    except InputError as error:
        raise InputError(f"{error}{_culprits(str(error), added, environ)}") from None
    origins = {
        field: "command line"
        if field in given
        else f"environment {added[field].variable}"
        if field in added
        else "recipe"
        for field in field_names()
    }
    lines = [f"recipe: {name} ({reason})"]
    lines += [
        f"{field} = {shown(_get(config, field))} ({_origin_text(field, origins, environment, recipe)})"
        for field in field_names()
        if _get(config, field) != _get(recipe, field)
    ]
    return Parsed(config, origins, lines)


def beside(arguments: Sequence[str], config: RunConfig, allowed: Collection[str], prog: str) -> RunConfig:
    """An existing configuration, changed by the few flags that are allowed with it.

    Args:
        arguments: flags.
        config: the existing configuration.
        allowed: dotted fields that the flags may set.
        prog: how the program is called, for error messages.

    Raises:
        InputError: a flag is not allowed, or a value is invalid.
    """
    names = ", ".join(flag for field in allowed for flag in flag_names(field))
    for argument in arguments:
        fields = _fields_given([argument])
        if fields - set(allowed) or (not argument.startswith("-") and argument in RECIPES):
            raise InputError(f"{argument}: the run goes on with its own configuration; beside it go only {names}")
    return _from_flags(list(arguments), config, prog)


def field_names() -> tuple[str, ...]:
    """The dotted names of all fields of `RunConfig` that have a flag, in order."""
    return tuple(_walk(_DEFAULT, ""))


def flag_names(field: str) -> list[str]:
    """The flag of a dotted field, or for a boolean the flag that turns it on and the one that turns it off."""
    names = [field]
    if isinstance(_get(_DEFAULT, field), bool):
        stage, _, name = field.rpartition(".")
        names.append(f"{stage}.no_{name}" if stage else f"no_{name}")
    return ["--" + name.replace("_", "-") for name in names]


def as_flags(field: str, value: Any) -> list[str]:
    """The command-line arguments that set a dotted field to a value."""
    names = flag_names(field)
    if isinstance(value, bool):
        return [names[0] if value else names[1]]
    if isinstance(value, tuple):
        return [names[0], *map(str, value)]
    return [f"{names[0]}={value}"]


def _walk(config: Any, prefix: str) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _walk(value, f"{prefix}{field.name}.")
        elif prefix or field.name != "recipe":
            yield prefix + field.name


def _get(config: RunConfig, field: str) -> Any:
    return attrgetter(field)(config)


def named(name: str) -> RunConfig:
    """The configuration of a recipe.

    Raises:
        InputError: there is no recipe of this name.
    """
    if name not in RECIPES:
        nearest = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0)[0]
        raise InputError(f"{name}: no such recipe; did you mean {nearest}? There are {', '.join(RECIPES)}")
    return RECIPES[name]()


def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """A configuration, or a part of one, with new values of some dotted fields, all changed together.

    Raises:
        InputError: the values are inconsistent.
    """
    own, inner = dict[str, Any](), dict[str, dict[str, Any]]()
    for field, value in values.items():
        head, dot, rest = field.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    own |= {head: changed(getattr(config, head), of_part) for head, of_part in inner.items()}
    return dataclasses.replace(config, **own)


def differences(config: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The values in `config` and in `other` of every field with a flag in which they differ, by dotted name."""
    pairs = ((field, _get(config, field), _get(other, field)) for field in field_names())
    return {field: (value, others) for field, value, others in pairs if value != others}


def _spelled(argument: str) -> str:
    """A flag without its value, spelled as in the help: tyro accepts `_` for `-`."""
    return argument.partition("=")[0].replace("_", "-")


def _fields_given(arguments: Sequence[str]) -> set[str]:
    fields = {flag: field for field in field_names() for flag in flag_names(field)}
    return {fields[_spelled(argument)] for argument in arguments if _spelled(argument) in fields}


def _from_flags(arguments: list[str], recipe: RunConfig, prog: str) -> RunConfig:
    default = _Flags(**vars(recipe))
    with in_one_line():
        flags, unknown = tyro.cli(_Flags, args=arguments, default=default, prog=prog, return_unknown_args=True)
    if unknown:
        raise InputError(_unknown(unknown[0], prog))
    return RunConfig(**vars(flags))


def _unknown(argument: str, prog: str) -> str:
    if argument in RECIPES or _spelled(argument) == "--recipe":
        return f"{argument}: not expected here; the recipe is the first argument: {prog} {next(iter(RECIPES), '')}"
    if not argument.startswith("-"):
        return f"{argument}: not expected here, after a flag that takes no more values; {prog} --help shows all"
    flags = [flag for field in field_names() for flag in flag_names(field)]
    spelled = _spelled(argument)
    last = spelled.lstrip("-").rpartition(".")[2]
    near = [flag for flag in flags if flag.rpartition(".")[2] == last]
    near += [flag for flag in difflib.get_close_matches(spelled, flags, n=2) if flag not in near]
    hint = f"did you mean {' or '.join(near)}" if near else f"{prog} --help shows all"
    return f"{spelled}: no such flag; {hint}"


def _culprits(message: str, added: Mapping[str, Setting], environ: Mapping[str, str]) -> str:
    """A text that names the environment variables that set a field named in an error message."""
    words = set(re.findall(r"\w+", message))
    names = {setting.variable for field, setting in added.items() if field.rpartition(".")[2] in words}
    said = ", ".join(f"{name}={environ[name]}" for name in sorted(names))
    return f" (environment: {said})" if said else ""


def shown(value: Any) -> str:
    """The value of a field as a text for people."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    if value is None or value == "":
        return "none"
    return str(value)


def _origin_text(field: str, origins: Mapping[str, str], environment: Mapping[str, Setting], recipe: RunConfig) -> str:
    text = origins[field]
    if text == "command line" and field in environment:
        text += f"; environment {environment[field].variable}: {shown(environment[field].value)}"
    return f"{text}; recipe: {shown(_get(recipe, field))}"


def _show_help(prog: str, name: str, recipe: RunConfig, quiet: bool) -> None:
    """Print the help on the first rank, and end the program."""
    if not quiet:
        width = min(shutil.get_terminal_size().columns, 100)
        about = f"{_ABOUT}\n{prog} {_RESUME}"
        description = f"{about}\n\n{_help_on_recipes(width)}\n\nThe defaults below are those of {name}."
        with contextlib.suppress(SystemExit):
            tyro.cli(
                _Flags,
                args=["--help"],
                default=_Flags(**vars(recipe)),
                prog=f"{prog} [RECIPE]",
                description=description,
            )
        print(_help_on_environment())
    sys.exit(0)


def _help_on_recipes(width: int) -> str:
    longest = max(map(len, RECIPES))
    lines = ["Recipes:"]
    for name, make in RECIPES.items():
        first = (make.__doc__ or "").strip().partition("\n")[0]  # python -OO keeps no docstrings
        start = f"  {name:<{longest}}  "
        rest = " " * len(start)
        said = textwrap.fill(first, width, initial_indent=start, subsequent_indent=rest, break_on_hyphens=False)
        lines.append(said or start.rstrip())
    return "\n".join(lines)


def _help_on_environment() -> str:
    longest = max(len(variable.name) for variable in VARIABLES)
    lines = ["Environment (a flag goes before it, a recipe after it):"]
    for variable in VARIABLES:
        flags = [flag_names(field)[0] for field in variable.fields]
        flags += [f"{flag_names(field)[0]} {value}" for field, value in variable.also.items()]
        lines.append(f"  {variable.name:<{longest}}  {', '.join(flags)}")
    return "\n".join(lines)
