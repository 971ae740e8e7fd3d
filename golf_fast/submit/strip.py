"""Modules without what no run looks at: docstrings, types, assertions, checks of what the package itself hands on."""

from __future__ import annotations

import ast
import re
import textwrap

from golf_fast.submit.fold import folded
from golf_fast.submit.scopes import last_name

SHORTER = {
    "data.dataset:prepare": "return _from_shards(data, vocab_size, 'asked for')",
    "data.case_ops:CaseOps.restore": "pass",
    "data.dataset:_compare_with_manifest": "pass",
    "data.tokenizer:Tokenizer._check_piece": "pass",
    "data.tokenizer:Tokenizer.decode": "pass",
    "data.tokenizer:Tokenizer.doubt": "return ''",
    "data.tokenizer:Tokenizer.encode": "pass",
    "files:open_regular": """
        try:
            return open(path, "rb")
        except OSError as error:
            raise InputError(f"{path}: {error}; {needed}")""",
    "files:read_bytes": """
        with open_regular(path, needed) as file:
            return file.read()""",
    "files:replacing": """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        with open(temporary, mode) as file:
            yield file
        os.replace(temporary, path)""",
    "files:sha256": "return hashlib.sha256(read_bytes(path, '')).hexdigest()",
    "json_files:parse": "return json.loads(content)",
    "json_files:read_object": "return json.loads(read_bytes(path, needed))",
    "ops.passes:obstacle": "return 'no extension'",
    "ops.passes:resolve": "return backends.resolve(op, x.device).name",
    "score.verdict:judge": "return Verdict([], ['V1 to V14: the audit of golf_fast judges'], 'A', 'stream')",
}
"""Module below the package and function in it -> what the function is in a built file, which trusts the files that its
user names, and neither makes or reads text, nor judges."""
CHECKED_BEFORE = (
    "ops",
    "model",
    "compress.artifact.codecs",
    "compress.artifact.header",
    "compress.artifact.parts",
    "compress.artifact.rans",
    "compress.artifact.rans_numpy",
    "compress.integers",
    "compress.stored",
    "data.batch",
)
"""Folders and modules that get what the package itself hands on: their checks of arguments are left out, as assertions
are. Files, the environment and the command line are checked by others."""
CONFIGURATIONS = ("config", "model_config", "train_config", "compress_config", "score_config")
"""Modules of dataclasses that check themselves when they are made; a recipe was checked when the file was built."""
SAYS_TO_PEOPLE = ("environment", "files", "submit.entry", "train.loss_monitor")
"""Modules whose errors are about what a user of the built file gave; others name the values only."""
VARIABLES = {
    "RUN_ID", "SEED", "DATA_PATH", "TOKENIZER_PATH", "MAX_WALLCLOCK_SECONDS", "ITERATIONS", "WARMUP_STEPS",
    "TRAIN_LOG_EVERY", "VAL_LOSS_EVERY", "VAL_BATCH_SIZE", "EVAL_BATCH_SEQS", "TTT_ENABLED", "VOCAB_SIZE",
}  # fmt: skip
"""Names of the environment that a built file reads: where and how long it runs. Its recipe is fixed, so it refuses all
others, and another VOCAB_SIZE, which the challenge's own command sets, than that of its model."""
_CHECKS = re.compile(r"_check|_?check_\w+|_?require\w*|_?refuse\w*")
_PURE = {
    "dataclass", "property", "cached_property", "staticmethod", "classmethod", "contextmanager", "lru_cache", "cache",
    "no_grad", "inference_mode", "enable_grad", "wraps", "setter", "jit", "autotune", "heuristics", "overload",
    "disable",
}  # fmt: skip
"""Decorators that leave no trace but the name they decorate."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def stripped(tree: ast.Module, name: str) -> ast.Module:
    """Without docstrings, assertions and what is only for type checkers, which no run looks at.

    Args:
        name: of the module, below the package.
    """
    trusting = any(f"{name}.".startswith(f"{each}.") for each in CHECKED_BEFORE)
    shorter = {each.removeprefix(f"{name}:"): body for each, body in SHORTER.items() if each.startswith(f"{name}:")}
    tree = _Briefer(said=name in SAYS_TO_PEOPLE).visit(tree)
    if name.startswith(("ops.", "compress.")):
        tree = folded(_Nativeless().visit(tree))
    cleaned = _Cleaner(trusting, name in CONFIGURATIONS, shorter).visit(tree)
    assert not shorter, f"{name} has no {', '.join(shorter)}"
    assert isinstance(cleaned, ast.Module)
    return cleaned


class _Briefer(ast.NodeTransformer):
    """Takes out texts that only explain, and names of the environment that change the recipe.

    Args:
        said: whether errors keep their texts; otherwise they name the values only.
    """

    def __init__(self, said: bool) -> None:
        self.said = said

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if not self.said and isinstance(node.exc, ast.Call) and len(node.exc.args) == 1:
            node.exc.args = [_values(node.exc.args[0])]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """What stands in a backend's way is not explained."""
        return _Unexplained().visit(node) if "obstacle" in node.name else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A backend goes without its reason."""
        if last_name(node.func).lower() == "candidate":
            texts = (ast.Constant, ast.JoinedStr)
            node.args = [*node.args[:1], *(_nothing(e) if isinstance(e, texts) else e for e in node.args[1:])]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if ast.unparse(node.target) == "VARIABLES" and isinstance(node.value, ast.Tuple):
            calls = [each for each in node.value.elts if isinstance(each, ast.Call)]
            node.value.elts = [each for each in calls if ast.literal_eval(each.args[0]) in VARIABLES]
        return self.generic_visit(node)


class _Unexplained(ast.NodeTransformer):
    """Makes every sentence a "no"."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("no")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("no") if isinstance(node.value, str) and " " in node.value else node


def _values(text: ast.expr) -> ast.expr:
    """A text with nothing but a space between its values."""
    if isinstance(text, ast.Constant):
        return _nothing(text)
    if not isinstance(text, ast.JoinedStr):
        return text
    values: list[ast.expr] = []
    for each in text.values:
        if isinstance(each, ast.FormattedValue):
            values += [ast.Constant(" "), each]
    return ast.JoinedStr(values[1:])


def _nothing(text: ast.expr) -> ast.expr:
    return ast.Constant("") if not isinstance(getattr(text, "value", ""), tuple) else text


class _Nativeless(ast.NodeTransformer):
    """Takes out what calls the extension, which a built file does not have."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [each for each in node.body if not self._native(each)]
        return self.generic_visit(node)

    @staticmethod
    def _native(statement: ast.stmt) -> bool:
        """Whether a statement defines or registers an operator of the extension, or imports it."""
        if isinstance(statement, ast.FunctionDef):
            names = [statement.name, *(ast.unparse(each) for each in statement.decorator_list)]
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            names = [ast.unparse(statement.value.func)]
        else:
            return isinstance(statement, ast.Try) and "_C" in ast.unparse(statement.body[0])
        return any(each.lstrip("_").startswith("native_") or each == "_native" for each in names)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """No backend is native."""
        chosen = {ast.Eq: False, ast.NotEq: True}.get(type(node.ops[0]))
        if chosen is None or ast.unparse(node.comparators[0]) != "'native'":
            return self.generic_visit(node)
        return ast.Constant(chosen)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = last_name(node.func)
        if called in ("chosen", "_use_native") and ast.unparse(node.func) in ("passes.chosen", "_use_native"):
            return ast.Constant(False)
        if called == "register":
            node.args = [each for each in node.args if not self._candidate(each)]
        return self.generic_visit(node)

    @staticmethod
    def _candidate(node: ast.expr) -> bool:
        """Whether it is the extension as a candidate for an operator."""
        return isinstance(node, ast.Call) and (
            ast.unparse(node.func) == "passes.candidate" or any(ast.unparse(each) == "'native'" for each in node.args)
        )

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        pairs = [pair for pair in zip(node.keys, node.values, strict=True) if ast.unparse(pair[1]) != "_native"]
        node.keys, node.values = [key for key, _ in pairs], [value for _, value in pairs]
        return self.generic_visit(node)


class _Cleaner(ast.NodeTransformer):
    """Takes out of a module what no run looks at.

    Args:
        trusting: whether checks of arguments are taken out too.
        configuration: whether dataclasses do not check themselves.
        shorter: function, by its name in the module -> its body; those that were met are taken out.
    """

    def __init__(self, trusting: bool, configuration: bool, shorter: dict[str, str]) -> None:
        self.trusting = trusting
        self.configuration = configuration
        self.shorter = shorter
        self._within = ""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        refuses = not node.orelse and all(isinstance(each, ast.Raise) or self._checks(each) for each in node.body)
        if self.trusting and refuses and not any(isinstance(each, ast.NamedExpr) for each in ast.walk(node.test)):
            return None
        self.generic_visit(node)
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self._filled(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) or (self.trusting and self._checks(node)):
            return None
        return self.generic_visit(node)

    @staticmethod
    def _checks(node: ast.stmt) -> bool:
        """Whether a statement is nothing but a call of a check."""
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            return False
        return _CHECKS.fullmatch(last_name(node.value.func)) is not None

    def visit_Assert(self, node: ast.Assert) -> None:
        return None

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Fields keep that they have a type, which is all that makes them fields."""
        with_fields = any("dataclass" in ast.unparse(each) for each in node.decorator_list) or any(
            "NamedTuple" in ast.unparse(base) for base in node.bases
        )
        self._within = f"{node.name}."
        self.generic_visit(node)
        self._within = ""
        body: list[ast.stmt] = []
        for statement in node.body:
            if not isinstance(statement, ast.AnnAssign):
                body.append(statement)
            elif with_fields:
                statement.annotation = ast.Name("int", ast.Load())
                body.append(statement)
            elif statement.value is not None:
                body.append(ast.Assign([statement.target], statement.value))
        node.body = body
        return self._filled(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.generic_visit(node)
        node.body = [each for each in map(_unannotated, node.body) if each is not None]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if self.configuration and node.name == "__post_init__":
            return None
        shorter = self.shorter.pop(self._within + node.name, None)
        if shorter:
            node.body = ast.parse(textwrap.dedent(shorter)).body
        if any("jit" in ast.unparse(each) for each in node.decorator_list):
            return self._kernel(node)
        self.generic_visit(node)
        for inner in ast.walk(node):
            for name in ("body", "orelse", "finalbody"):
                body = getattr(inner, name, None)
                if isinstance(body, list) and not isinstance(inner, ast.ClassDef):
                    setattr(inner, name, [each for each in map(_unannotated, body) if each is not None])
        if is_pure(node):
            node.returns = None
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                argument.annotation = None
            for argument in filter(None, (arguments.vararg, arguments.kwarg)):
                argument.annotation = None
        return self._filled(node)

    @staticmethod
    def _kernel(node: ast.FunctionDef) -> ast.AST:
        """A kernel without its docstring; its annotations say what is a constant."""
        if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            del node.body[0]
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        return self._filled(node)

    @staticmethod
    def _filled(node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            body.append(ast.Pass())
        return node


def _unannotated(statement: ast.stmt) -> ast.stmt | None:
    """An annotated assignment as a plain one; None for a declaration."""
    if not isinstance(statement, ast.AnnAssign):
        return statement
    return None if statement.value is None else ast.Assign([statement.target], statement.value)


def is_pure(definition: Definition) -> bool:
    """Whether defining it leaves no trace but its name."""
    for node in definition.decorator_list:
        called = node.func if isinstance(node, ast.Call) else node
        if (called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)) not in _PURE:
            return False
    return True
