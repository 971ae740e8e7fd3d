"""Parses the arguments of programs: an error is one line and exit code 2, not a box or a page of usage."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from golf_fast.errors import InputError, printable

_EMPTY = "is empty: it must be a path, such as . for the current folder"
_NO_NUMBER = re.compile(
    r"(?:Error parsing|argument) (?P<flag>\S+): (?:invalid (?:literal for )?(?P<whole>int)(?:\(\) with base 10| value)"
    r"|could not convert string to float|invalid float value): (?P<value>.*)"
)
_PARSED = re.compile(r"(?:Error parsing|argument) \[*(?P<argument>[^\s:]+)[^:]*:")
_MISSING = re.compile(r"Missing from [^:]+: (?P<arguments>.+) \(required\)")
_NAME_AND_HELP = re.compile(r"(--\S+ \S+|\S+) (.*?)\.?")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises an `InputError` instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{_in_our_words(message)}; {self.prog} --help shows all")


def count(text: str) -> int:
    """A number of things, for `add_argument(type=...)`: at least 1 and below a million million."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text)):
        raise argparse.ArgumentTypeError(f"{text[:40]!a}: it must be a whole number, at least 1")
    return int(text)


def a_path(text: str) -> Path:
    """A path, for `add_argument(type=...)`; the empty text, which `Path` takes for the current folder, is none."""
    if not text:
        raise argparse.ArgumentTypeError(_EMPTY)
    return Path(text)


def existing_folder(text: str) -> Path:
    """A folder that is there, for `add_argument(type=...)`."""
    folder = a_path(text)
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{printable(text)}: there is no such folder")
    return folder


@contextlib.contextmanager
def in_one_line(prog: str = "") -> Iterator[None]:
    """A context in which tyro, instead of drawing a box on stderr and exiting, raises an `InputError` with its message.

    Args:
        prog: how the program is called, to point to its help; "": the help is not mentioned.
    """
    complaint, empty = io.StringIO(), list[str]()
    try:
        with contextlib.redirect_stderr(complaint), _paths(empty):
            yield
    except SystemExit as stop:
        if not stop.code:  # the help was requested and is printed
            raise
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__context__
        said = str(cause) if cause else _sentence(complaint.getvalue())
        if empty and (found := _PARSED.match(said)):
            said = f"{found['argument']} {_EMPTY}"
        raise InputError(f"{said.rstrip('.')}; {prog} --help shows all" if prog and not cause else said) from None


@contextlib.contextmanager
def _paths(empty: list[str]) -> Iterator[None]:
    """A context in which tyro takes no empty text for a path; each that it met is added to `empty`."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    def from_words(words: list[str]) -> Path:
        if not words[0]:
            empty.append(words[0])
            raise ValueError(_EMPTY)
        return Path(words[0])

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
        if info.type is not Path:
            return None
        return PrimitiveConstructorSpec(
            1, "PATH", from_words, lambda value: isinstance(value, Path), lambda value: [str(value)]
        )

    with registry:
        yield


@contextlib.contextmanager
def as_typed(flags: Mapping[str, str]) -> Iterator[None]:
    """A context whose errors name settings of a run by the flags of a program.

    Args:
        flags: the flag of each setting, by its dotted name, such as "--out" for "data.built".
    """
    try:
        yield
    except InputError as error:
        if not flags:
            raise
        names = "|".join(map(re.escape, flags))
        said = re.sub(rf"(?<![\w./-])(?:--)?({names})(?![\w./-])", lambda found: flags[found[1]], str(error))
        raise InputError(said) from error


def call(
    program: Callable[..., None] | Mapping[str, Callable[..., None]],
    prog: str,
    description: str | None = None,
    args: Sequence[str] | None = None,
) -> None:
    """Call a function, or that of a subcommand, with arguments from the command line.

    Args:
        program: the function, or functions by subcommand.
        prog: how the program is called.
        description: text for the help; default: the function's docstring.
        args: the command line; default: that of the process.

    Raises:
        InputError: an argument is unknown or missing, or has an invalid value.
        SystemExit: with code 0, after the help was requested and printed.
    """
    import tyro

    given = sys.argv[1:] if args is None else args
    if not callable(program) and given and not given[0].startswith("-"):
        if given[0] not in program:
            nearest = difflib.get_close_matches(given[0], program, n=1, cutoff=0)[0]
            raise InputError(f"{given[0]}: no such command; did you mean {nearest}? There are {', '.join(program)}")
        named = f"{prog} {given[0]}"
    else:
        named = prog
    with in_one_line(named):
        if callable(program):
            chosen = tyro.cli(_later(program), prog=prog, description=description, args=args)
        else:
            later = {name: _later(function) for name, function in program.items()}
            chosen = tyro.extras.subcommand_cli_from_dict(later, prog=prog, description=description, args=args)
    chosen()


def _later(function: Callable[..., None]) -> Callable[..., Any]:
    """A function with the same parameters that returns a deferred call."""

    @functools.wraps(function)
    def bind(*arguments: object, **named: object) -> Callable[[], None]:
        return functools.partial(function, *arguments, **named)

    # The lines of an argument are one text: tyro would keep their ends and break them once more. It asks `function`.
    function.__doc__ = re.sub(r"\n {8,}(?=\S)", " ", inspect.cleandoc(function.__doc__ or ""))
    return bind


def _sentence(box: str) -> str:
    """The message of a box that tyro drew, on one line: the text between its title and the first rule after it."""
    said: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│| ")
        rule = set(text) <= set("─-╰╯")
        if rule and said:
            break
        if not rule:
            said.append(text)
    return _in_our_words(" ".join(said) or box)


def _in_our_words(said: str) -> str:
    """Say what is missing, or is no number, as it is said elsewhere; what tyro or argparse says else, as it is."""
    if found := _MISSING.fullmatch(said):
        named = (_NAME_AND_HELP.fullmatch(argument) for argument in found["arguments"].split(" (required) "))
        return f"missing: {', '.join(f'{each[1]} ({each[2]})' for each in named if each)}"
    if said.endswith(_EMPTY) and (found := _PARSED.match(said)):
        return f"{found['argument']} {_EMPTY}"
    found = _NO_NUMBER.fullmatch(said)
    if found is None:
        return said
    return f"{found['flag']} is {found['value']}: it must be a {'whole number' if found['whole'] else 'number'}"
