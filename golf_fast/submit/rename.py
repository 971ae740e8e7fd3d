"""Gives short names to everything that a program of one module defines itself.

Variables, functions and classes are renamed by scope; members and keyword arguments by name only, everywhere or
nowhere. A member keeps its name if code outside the program may access it: an imported package or one of its classes
has a member of that name, a string of the program contains it, it is a field of a dataclass or belongs to a model
(these are written to files), or it is passed by keyword to code outside the program.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import io
import itertools
import keyword
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FrameType, FunctionType, ModuleType, TracebackType

from golf_fast.submit.scopes import Occurrence, Scope, last_name, occurrences

_WORD = re.compile(r"[^\W\d]\w*")
_OF_OTHERS = {
    "launches", "num_warps", "num_stages", "num_ctas", "maxnreg", "weight", "bias", "training", "grid", "ctx", "inputs",
    "output", "_dynamo_marked_constant",
}  # fmt: skip
"""Names that Triton, torch or a caller accesses although the sources do not show it."""
_ASKED_FOR = {"main", "tl"}
"""Module-level names that must not change: the entry, and Triton's language, which annotations of kernels mention."""
_MODULES = ("torch.nn", "torch.distributed", "torch.cuda", "torch.optim", "torch.autograd")
_WRITTEN = ("dataclass",)
_MODELS = ("Module", "NamedTuple", "Enum", "StrEnum", "TypedDict")
"""Base classes whose members are accessed by name outside the program."""
_BUILT_IN = (
    object, str, bytes, bytearray, memoryview, dict, list, tuple, set, frozenset, int, float, complex, slice, range,
    type, property, BaseException, FunctionType, CodeType, FrameType, TracebackType, ModuleType, io.TextIOWrapper,
    io.BufferedReader, io.BytesIO, re.Pattern, re.Match,
)  # fmt: skip


def renamed(tree: ast.Module) -> ast.Module:
    """Shorten the names of a program in place: local variables get upper-case letters, other names lower-case ones."""
    found = occurrences(tree)
    members = _Members()
    members.visit(tree)
    others = _of_others(members.modules)
    handed = _Handed(tree, members, others)
    kept = members.kept | members.words | others | _OF_OTHERS | handed.elsewhere
    variables = _Variables(found, handed)
    mine = {name for name in members.defined | variables.handed if name not in kept and not name.startswith("__")}
    taken = kept | members.counts.keys() | {each.name for each in found}
    counts = {("member", name): members.counts[name] + variables.counts[name] for name in mine if len(name) > 2}
    counts |= {("global", name): count for name, count in variables.of_module.items()}
    short = _short(taken, string.ascii_lowercase, string.ascii_letters + string.digits)
    names = dict(zip(sorted(counts, key=lambda key: (-counts[key], key)), short, strict=False))
    of_members = {name: new for (kind, name), new in names.items() if kind == "member"}
    variables.rename({name: new for (kind, name), new in names.items() if kind == "global"}, of_members)
    _Renamer(of_members).visit(tree)
    return tree


def names_of_others(tree: ast.Module) -> frozenset[str]:
    """Names of the members of everything that a program imports, and of the built-in types."""
    members = _Members()
    members.visit(tree)
    return _of_others(members.modules)


def _short(taken: set[str], first: str, others: str) -> Iterator[str]:
    """Yield names of two letters or more that are not taken."""
    for length in itertools.count(1):
        for letters in itertools.product(first, *[others] * length):
            if (name := "".join(letters)) not in taken:
                yield name


@lru_cache(maxsize=64)
def _of_others(modules: tuple[str, ...]) -> frozenset[str]:
    """Names of the members of modules, of their classes and of the built-in types."""
    found = {*dir(builtins), *keyword.kwlist, *keyword.softkwlist}
    for kind in _BUILT_IN:
        found.update(dir(kind))
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError:  # a module for GPUs; members that are accessed directly are kept, see `_Members`
            continue
        found.update(dir(module))
        for value in vars(module).values():
            kind = type(value)  # attributes of the value itself are not read: a deprecated one would warn
            if issubclass(kind, type):
                found.update(dir(value))
            elif kind is FunctionType:
                code = value.__code__
                found.update(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    return frozenset(found)


def _is_signature(node: ast.AST) -> bool:
    """Whether the argument names of a function are used outside the program, as for kernels and torch operators."""
    words = [ast.unparse(each) for each in getattr(node, "decorator_list", [])]
    return any("jit" in word or "custom_op" in word for word in words)


class _Members(ast.NodeVisitor):
    """Collects the members that a program accesses and those that it defines."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.defined = set[str]()
        self.kept = set[str]()
        self.words = set[str]()
        self.imported = set[str]()
        self.foreign = set[str]()
        self.functions = set[str]()
        self.classes = set[str]()
        self.open = set[str]()

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that the program imports, and the parts of torch that it accesses."""
        return tuple(sorted({*_MODULES, *self.imported}))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imported.add(alias.name)
            self.foreign.add((alias.asname or alias.name).partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imported.add(node.module or "")
        self.foreign.update(alias.asname or alias.name for alias in node.names)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.functions.add(node.name)
        self.classes.add(node.name)
        bases = {last_name(base).rstrip("_") for base in node.bases}
        fixed = not bases.isdisjoint(_MODELS) or any(
            word in ast.unparse(each) for each in node.decorator_list for word in _WRITTEN
        )
        for statement in node.body:
            bound = self.kept if fixed else self.defined
            if isinstance(statement, ast.FunctionDef):
                self.defined.add(statement.name)
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                bound.update(each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
        for inner in ast.walk(node) if fixed else ():
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                self.kept.add(inner.attr)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.add(node.name)
        if node.args.kwarg:
            self.open.add(node.name)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.counts[node.attr] += 1
        root: ast.AST = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in self.foreign:
            self.kept.add(node.attr)
        elif isinstance(node.ctx, ast.Store):
            self.defined.add(node.attr)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        self.counts[node.arg or ""] += 1
        self.generic_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self.kept.update(node.kwd_attrs)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.words.update(_WORD.findall(node.value.replace("-", "_")))
            self.words.update(_WORD.findall(node.value))


class _Handed:
    """Names of keyword arguments in calls.

    Attributes:
        to: names that are passed to each function or class of the program.
        elsewhere: names that are passed to code that may be outside the program, or that accepts any name.
        unpacked: functions that get an unpacked dictionary; "" stands for unknown functions.
    """

    def __init__(self, tree: ast.Module, members: _Members, others: frozenset[str]) -> None:
        self.members = members
        self.to = defaultdict[str, set[str]](set)
        self.elsewhere = set[str]()
        self.unpacked = set[str]()
        own = members.functions - members.open - others
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name, foreign = self._called(node.func)
            if foreign or (name in others and name not in members.functions and name != "partial"):
                self.elsewhere.update(each.arg for each in node.keywords if each.arg)
                continue
            name = name if name in members.functions else ""
            for each in node.keywords:
                if each.arg is None:
                    self.unpacked.add(name)
                    continue
                self.to[name].add(each.arg)
                if name not in own:
                    self.elsewhere.add(each.arg)
        self._to_classes = {name for each in members.classes for name in self.to[each]}
        self._classes_unpacked = not self.unpacked.isdisjoint(members.classes)

    def _called(self, node: ast.expr) -> tuple[str, bool]:
        """The last name of a called expression, and whether it is a member of an import."""
        while isinstance(node, ast.Subscript):
            node = node.value
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            root = root.value
        name = last_name(node)
        foreign = isinstance(root, ast.Name) and root.id in self.members.foreign
        return name, foreign and name.rstrip("_") != "partial"

    def is_argument(self, function: ast.AST, name: str) -> bool:
        """Whether an argument of a function may be passed by name."""
        called = getattr(function, "name", "")
        words, unpacked = self.members.words, self.unpacked
        if name in _OF_OTHERS or name in self.to[""] or name in self.to[called]:
            return True
        if _is_signature(function):
            return name in words
        if called in ("__init__", "__new__"):
            return name in self._to_classes or (self._classes_unpacked and name in words)
        return called in unpacked and name in words


class _Variables:
    """The scoped names of a program.

    Attributes:
        of_module: module-level names that may be renamed, with their numbers of occurrences.
        handed: arguments that are passed by name, which are renamed like members.
        counts: numbers of occurrences of these arguments.
    """

    def __init__(self, found: list[Occurrence], handed: _Handed) -> None:
        self.of_module = Counter[str]()
        self.handed = set[str]()
        self.counts = Counter[str]()
        self._of_module: list[Occurrence] = []
        self._of_class: list[Occurrence] = []
        self._roots: dict[Scope, list[Occurrence]] = {}
        self._fixed: dict[Scope, set[str]] = defaultdict(set)
        self._seen: dict[Scope, set[str]] = defaultdict(set)
        stays = set[str](_ASKED_FOR)
        for each in found:
            owner, root = each.scope.owner(each.name), each.scope.root
            if owner is None or owner.outer is None:
                self._seen[root].add(each.name)
                if isinstance(each.node, ast.alias) and "." in each.node.name and not each.node.asname:
                    stays.add(each.name)
                if owner is not None:
                    self._of_module.append(each)
                    self.of_module[each.name] += 1
            elif owner.is_class:
                self._of_class.append(each)
            else:
                self._roots.setdefault(owner.root, []).append(each)
                if isinstance(each.node, ast.alias):
                    self._fixed[owner.root].add(each.name)
                elif isinstance(each.node, ast.arg) and handed.is_argument(owner.node, each.name):
                    self._fixed[owner.root].add(each.name)
                    self.handed.add(each.name)
        for name in [name for name in self.of_module if name in stays or name.startswith("__")]:
            del self.of_module[name]
        for root, inside in self._roots.items():
            self.counts.update(each.name for each in inside if each.name in self._fixed[root])

    def rename(self, of_module: dict[str, str], of_members: dict[str, str]) -> None:
        """Apply the new names."""
        for each in self._of_module:
            each.rename(of_module.get(each.name, each.name))
        for each in self._of_class:
            each.rename(of_members.get(each.name, each.name))
        for root, inside in self._roots.items():
            fixed = self._fixed[root]
            names = {name: of_members.get(name, name) for name in fixed}
            taken = {of_module.get(name, name) for name in self._seen[root]} | set(names.values()) | set(keyword.kwlist)
            short = itertools.chain(
                (letter for letter in string.ascii_uppercase + string.ascii_lowercase if letter not in taken),
                _short(taken, string.ascii_uppercase, string.ascii_letters),
            )
            free = dict.fromkeys(each.name for each in inside if each.name not in fixed and each.name[:2] != "__")
            names |= dict(zip(free, short, strict=False))
            for each in inside:
                each.rename(names.get(each.name, each.name))


class _Renamer(ast.NodeVisitor):
    """Renames members and keywords.

    Args:
        names: new names by old names.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Attribute(self, node: ast.Attribute) -> None:
        node.attr = self.names.get(node.attr, node.attr)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg:
            node.arg = self.names.get(node.arg, node.arg)
        self.generic_visit(node)
