"""Resolves the scope of each name of a program, by Python's rules."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

Functions = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehensions = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(eq=False)
class Scope:
    """A module, a class, a function or a comprehension, with the names that it binds.

    Attributes:
        node: the node that opens the scope.
        outer: the enclosing scope; None for a module.
        elsewhere: names that are declared global (True) or nonlocal (False).
        imported: names that an import binds.
    """

    node: ast.AST
    outer: Scope | None = None
    bound: set[str] = field(default_factory=set)
    elsewhere: dict[str, bool] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)

    @property
    def is_class(self) -> bool:
        """Whether it is a class, whose names are members that nested functions do not see."""
        return isinstance(self.node, ast.ClassDef)

    def owner(self, name: str) -> Scope | None:
        """The scope that binds `name` as seen from here; None for a built-in name."""
        scope: Scope | None = self
        while scope is not None:
            declared = scope.elsewhere.get(name)
            if declared is True:
                while scope.outer is not None:
                    scope = scope.outer
            elif declared is None and name in scope.bound and (scope is self or not scope.is_class):
                return scope
            elif scope.outer is None:
                return None
            else:
                scope = scope.outer
        return None

    @property
    def root(self) -> Scope:
        """The outermost function around it, or itself if there is none."""
        found = scope = self
        while scope.outer is not None:
            scope = scope.outer
            if isinstance(scope.node, Functions | Comprehensions):
                found = scope
        return found


@dataclass(frozen=True)
class Occurrence:
    """An occurrence of a name.

    Attributes:
        rename: replaces the name at this place.
        scope: the scope of this place, which need not be the one that binds the name.
    """

    name: str
    node: ast.AST
    scope: Scope
    rename: Callable[[str], None]


def last_name(node: ast.expr) -> str:
    """The name of the variable or member that an expression accesses; "" for other expressions."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def occurrences(tree: ast.Module) -> list[Occurrence]:
    """Every occurrence of a variable, argument, function or class in a module, without members and keywords."""
    finder = _Finder()
    finder.inside(tree.body, Scope(tree))
    return finder.found


class _Finder:
    def __init__(self) -> None:
        self.found: list[Occurrence] = []

    def inside(self, nodes: Sequence[ast.AST], scope: Scope) -> None:
        for node in nodes:
            self.visit(node, scope)

    def _note(self, node: ast.AST, place: str, scope: Scope, binds: bool = True) -> None:
        name = getattr(node, place)
        if name is None:
            return
        if binds:
            scope.bound.add(name)
        self.found.append(Occurrence(name, node, scope, lambda new: setattr(node, place, new)))

    def visit(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, Functions):
            self._function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._note(node, "name", scope)
            for each in (*node.decorator_list, *node.bases, *node.keywords):
                self.visit(each, scope)
            self.inside(node.body, Scope(node, scope))
        elif isinstance(node, Comprehensions):
            self._comprehension(node, scope)
        elif isinstance(node, ast.NamedExpr):
            holder = scope
            while isinstance(holder.node, Comprehensions) and holder.outer is not None:
                holder = holder.outer
            self._note(node.target, "id", holder)
            self.visit(node.value, scope)
        elif isinstance(node, ast.Name):
            self._note(node, "id", scope, not isinstance(node.ctx, ast.Load))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            self._declaration(node, scope)
        elif isinstance(node, ast.alias):
            self._alias(node, scope)
        else:
            if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
                self._note(node, "name", scope)
            elif isinstance(node, ast.MatchMapping):
                self._note(node, "rest", scope)
            for child in ast.iter_child_nodes(node):
                self.visit(child, scope)

    def _function(self, node: Functions, scope: Scope) -> None:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += filter(None, (arguments.vararg, arguments.kwarg))
        before: Iterator[ast.AST | None] = iter([*arguments.defaults, *arguments.kw_defaults])
        outside = [each for each in (*before, *(each.annotation for each in every)) if each is not None]
        if not isinstance(node, ast.Lambda):
            self._note(node, "name", scope)
            outside += [*node.decorator_list, *([node.returns] if node.returns else [])]
        for each in outside:
            self.visit(each, scope)
        inner = Scope(node, scope)
        for argument in every:
            self._note(argument, "arg", inner)
        self.inside([node.body] if isinstance(node, ast.Lambda) else node.body, inner)

    def _comprehension(self, node: Comprehensions, scope: Scope) -> None:
        inner, (first, *_) = Scope(node, scope), node.generators
        self.visit(first.iter, scope)
        for each in node.generators:
            self.visit(each.target, inner)
            for part in ([each.iter] if each is not first else []) + each.ifs:
                self.visit(part, inner)
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.visit(part, inner)

    def _declaration(self, node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
        for place, name in enumerate(node.names):
            scope.elsewhere[name] = isinstance(node, ast.Global)
            self.found.append(Occurrence(name, node, scope, partial(node.names.__setitem__, place)))

    def _alias(self, node: ast.alias, scope: Scope) -> None:
        bound = node.asname or node.name.partition(".")[0]
        scope.bound.add(bound)
        scope.imported.add(bound)

        def rename(new: str) -> None:
            if not node.asname and "." in node.name and new != bound:
                raise ValueError(f"import {node.name} binds {bound}, which cannot become {new}")
            node.asname = None if new == node.name else new if node.asname or new != bound else None

        self.found.append(Occurrence(bound, node, scope, rename))
