"""Short names for what this package itself defines, the same in every module of a built file.

A name is changed wherever it stands or nowhere, whatever it is bound to there: what was one name before is one name
after. It stays if others may ask for it: modules imported from elsewhere and their classes have it, a text of the
program contains it, it is a field of a dataclass or belongs to a model (these are written to files), or it is handed
by keyword to what is not of this package.
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
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType, FrameType, FunctionType, ModuleType, TracebackType

_WORD = re.compile(r"[^\W\d]\w*")
_OF_OTHERS = {
    "main", "resolve", "launches", "num_warps", "num_stages", "num_ctas", "maxnreg", "weight", "bias", "training",
    "grid", "ctx", "inputs", "output",
}  # fmt: skip
"""Names that a caller outside of the program, Triton or torch asks for without a trace of it in the sources."""
_WRITTEN = ("dataclass",)
_MODELS = ("Module", "NamedTuple", "Enum", "StrEnum", "TypedDict")
"""Bases of classes whose members are known by name outside of the program."""
_BUILT_IN = (
    object, str, bytes, bytearray, memoryview, dict, list, tuple, set, frozenset, int, float, complex, slice, range,
    type, property, BaseException, FunctionType, CodeType, FrameType, TracebackType, ModuleType, io.TextIOWrapper,
    io.BufferedReader, io.BytesIO, re.Pattern, re.Match,
)  # fmt: skip


def renamed(trees: Sequence[ast.Module], package: str) -> list[ast.Module]:
    """The program with short names.

    Args:
        trees: its modules.
        package: its name; what is imported from elsewhere is of others.
    """
    trees = [ast.parse(ast.unparse(tree)) for tree in trees]
    found = _Names(package)
    for tree in trees:
        found.visit(tree)
    others = _of_others(tuple(sorted(found.imported)))
    kept = found.kept | others | _OF_OTHERS | found.handed_to(others)
    mine = [name for name in found.defined if name not in kept and not name.startswith("__")]
    mine.sort(key=lambda name: (-found.counts[name], name))
    short = _short(set(found.counts) | kept)
    names = dict(zip([name for name in mine if len(name) > 2], short, strict=False))
    for tree in trees:
        _Renamer(names, package).visit(tree)
    return trees


def _short(taken: set[str]) -> Iterator[str]:
    first = string.ascii_lowercase + string.ascii_uppercase
    for letters in itertools.chain(itertools.product(first, first + string.digits), itertools.product(*[first] * 3)):
        if (name := "".join(letters)) not in taken:
            yield name


@lru_cache(maxsize=64)
def _of_others(modules: tuple[str, ...]) -> frozenset[str]:
    """Names of modules, of their classes and of the built-in types."""
    found = {*dir(builtins), *keyword.kwlist, *keyword.softkwlist}
    for kind in _BUILT_IN:
        found.update(dir(kind))
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError:  # it is for a GPU; what is asked of it directly stays, see `_Names`
            continue
        found.update(dir(module))
        for value in vars(module).values():
            kind = type(value)  # nothing is asked of the value itself: a deprecated one would warn
            if issubclass(kind, type):
                found.update(dir(value))
            elif kind is FunctionType:
                code = value.__code__
                found.update(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    return frozenset(found)


class _Names(ast.NodeVisitor):
    """What a program calls its things.

    Args:
        package: what is imported from elsewhere is of others.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self.counts = Counter[str]()
        self.defined: dict[str, None] = {}
        self.kept = set[str]()
        self.imported = {"torch.nn", "torch.distributed", "torch.cuda", "torch.optim", "torch.autograd"}
        self._foreign = set[str]()
        self._functions = set[str]()
        self._open = set[str]()
        self._handed: list[tuple[str, str]] = []

    def _own(self, name: str) -> None:
        self.counts[name] += 1
        self.defined[name] = None

    def visit_Module(self, node: ast.Module) -> None:
        self._foreign = {
            (alias.asname or alias.name).partition(".")[0]
            for inner in ast.walk(node)
            if self._elsewhere(inner)
            for alias in inner.names  # type: ignore[attr-defined]
        }
        self.generic_visit(node)

    def _elsewhere(self, node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            return (node.module or "").partition(".")[0] != self.package
        return isinstance(node, ast.Import) and node.names[0].name.partition(".")[0] != self.package

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.kept.update(alias.name.split("."))
            self.kept.add(alias.asname or "")
            if self._elsewhere(node):
                self.imported.add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.kept.update((node.module or "").split("."))
        for alias in node.names:
            if self._elsewhere(node):
                self.kept.update((alias.name, alias.asname or ""))
                self.imported.add(node.module or "")
            else:
                self.counts[alias.name] += 1
                if alias.asname:
                    self._own(alias.asname)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._own(node.name)
        self._functions.add(node.name)
        fixed = any(word in ast.unparse(each) for each in node.decorator_list for word in _WRITTEN) or any(
            ast.unparse(base).rpartition(".")[2] in _MODELS for base in node.bases
        )
        for inner in ast.walk(node) if fixed else ():
            if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                self.kept.add(inner.target.id)
            elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                self.kept.add(inner.attr)
        if fixed:
            for statement in node.body:
                for target in statement.targets if isinstance(statement, ast.Assign) else ():
                    self.kept.update(each.id for each in ast.walk(target) if isinstance(each, ast.Name))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._own(node.name)
        self._functions.add(node.name)
        if node.args.kwarg:
            self._open.add(node.name)
        if any("jit" in ast.unparse(each) for each in node.decorator_list):
            arguments = node.args
            self.kept.update(each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        self._own(node.arg)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.counts[node.id] += 1
        if isinstance(node.ctx, ast.Store):
            self.defined[node.id] = None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.counts[node.attr] += 1
        root: ast.AST = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in self._foreign:
            self.kept.add(node.attr)
        elif isinstance(node.ctx, ast.Store):
            self.defined[node.attr] = None
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._own(node.name)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called: ast.AST = node.func
        while isinstance(called, ast.Subscript):
            called = called.value
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        for each in node.keywords:
            if each.arg:
                self.counts[each.arg] += 1
                self._handed.append((name, each.arg))
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.kept.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.kept.update(node.names)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.kept.add(node.name or "")
        self.generic_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self.kept.update(node.kwd_attrs)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.kept.update(_WORD.findall(node.value.replace("-", "_")))
            self.kept.update(_WORD.findall(node.value))

    def handed_to(self, others: frozenset[str]) -> set[str]:
        """Names that are handed by keyword to what may not be of this package, or takes any."""
        own = self._functions - self._open - others
        return {keyword for function, keyword in self._handed if function not in own}


class _Renamer(ast.NodeVisitor):
    """Gives names their short ones.

    Args:
        names: old -> new.
        package: only imports from it are changed.
    """

    def __init__(self, names: dict[str, str], package: str) -> None:
        self.names = names
        self.package = package

    def generic_visit(self, node: ast.AST) -> None:
        for name in ("id", "attr", "arg", "name"):
            value = getattr(node, name, None)
            if isinstance(value, str) and not isinstance(node, ast.alias):
                setattr(node, name, self.names.get(value, value))
        super().generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        own = (node.module or "").partition(".")[0] == self.package
        for alias in node.names:
            if own:
                alias.name = self.names.get(alias.name, alias.name)
            if alias.asname:
                alias.asname = self.names.get(alias.asname, alias.asname)
            if alias.asname == alias.name:
                alias.asname = None
