"""Assertions split in two by their syntax: the calls that run with an answer, and what is asserted about their values.

`assert f([1, 2]) == 3` gives the call `f([1, 2])` and the assertion `assert _R[0] == 3`. A call can be split off when it
is closed: its arguments use nothing that the test code binds itself, as a loop variable would be.
"""

import ast
import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RESULTS = "_R"


class CannotSplitError(ValueError):
    """The assertions need the answer beside them."""


@dataclass(frozen=True, slots=True)
class Split:
    """Calls as expressions, and the assertions with `_R[i]` for the value of call i."""

    calls: tuple[str, ...]
    assertions: str
    expected: tuple[Any, ...] | None  # of the calls, in order, when every assertion is `_R[i] == literal`


def with_call(check: str, *, entry_point: str) -> str:
    """The test code, so that running it tests: a function `check(candidate)` that nobody calls is called."""
    tree = ast.parse(check)
    if _check_function(tree) is not None and _argument_of_check(tree) is None:
        return f"{check}\n\ncheck({entry_point})\n"
    return check


def split(setup: str, check: str, *, entry_point: str) -> Split:
    """Raises CannotSplitError where a call is not closed or the answer is used otherwise than by calling it."""
    tree = ast.parse(check)
    prelude, body, target = _parts(tree, entry_point)
    if target is not None:
        body = [_Substitute(*target).visit(statement) for statement in body]
    bound = _bound([*prelude, *body])
    known = (_bound(ast.parse(setup).body) - {entry_point}) | set(dir(builtins))
    splitter = _Splitter(bound=bound, known=known)
    rewritten = [splitter.visit(statement) for statement in body]
    if not splitter.calls:
        raise CannotSplitError("no call of the answer")
    module = ast.Module([*prelude, *rewritten], [])
    return Split(tuple(splitter.calls), ast.unparse(ast.fix_missing_locations(module)), _expected(module.body))


def _parts(tree: ast.Module, entry_point: str) -> tuple[list[ast.stmt], list[ast.stmt], tuple[str, ast.expr] | None]:
    """(statements before, statements that test, what the parameter of `check` stands for)."""
    function = _check_function(tree)
    if function is None:
        return [], tree.body, None
    argument = _argument_of_check(tree) or ast.Name(entry_point, ast.Load())
    calls = [node for node in tree.body if isinstance(node, ast.Expr) and _is_call_of_check(node.value)]
    prelude = [node for node in tree.body if node is not function and node not in calls]
    return prelude, function.body, (function.args.args[0].arg, argument)


def _check_function(tree: ast.Module) -> ast.FunctionDef | None:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and len(node.args.args) == 1:
            return node
    return None


def _is_call_of_check(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"


def _argument_of_check(tree: ast.Module) -> ast.expr | None:
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _is_call_of_check(node.value):
            return node.value.args[0]
    return None


def _bound(statements: Sequence[ast.stmt]) -> set[str]:
    """Names that these statements bind."""
    names: set[str] = set()
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.alias):
                names.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                names.add(node.id)
    return names


def _own_names(expression: ast.expr) -> set[str]:
    """Names that an expression binds itself: of its comprehensions and lambdas."""
    return _bound([ast.Expr(expression)])


class _Substitute(ast.NodeTransformer):
    """Put an expression in the place of a name."""

    def __init__(self, name: str, expression: ast.expr) -> None:
        self.name, self.expression = name, expression

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.expression if node.id == self.name else node


class _Splitter(ast.NodeTransformer):
    """Replace the outermost calls of the answer by `_R[i]` and collect them."""

    def __init__(self, *, bound: set[str], known: set[str]) -> None:
        self.bound = bound  # by the test code: not there in the answer's process
        self.known = known  # built-in, or bound by the setup: the same in both processes
        self.calls: list[str] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if self._root(node.func) is None:
            return self.generic_visit(node)
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        if used := sorted((names & self.bound) - _own_names(node)):
            raise CannotSplitError(f"a call uses {', '.join(used)}")
        self.calls.append(ast.unparse(node))
        index = ast.Constant(len(self.calls) - 1)
        return ast.Subscript(ast.Name(RESULTS, ast.Load()), index, ast.Load())

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if self._is_answers(node.id):
            raise CannotSplitError(f"{node.id} is used without being called")
        return node

    def _is_answers(self, name: str) -> bool:
        return name not in self.known and name not in self.bound

    def _root(self, function: ast.expr) -> str | None:
        """The answer's name that a called expression begins with, as Solution in Solution().f."""
        while isinstance(function, ast.Attribute | ast.Call | ast.Subscript):
            function = function.func if isinstance(function, ast.Call) else function.value
        return function.id if isinstance(function, ast.Name) and self._is_answers(function.id) else None


def _expected(statements: Sequence[ast.stmt]) -> tuple[Any, ...] | None:
    """The literals of `assert _R[0] == literal`, `assert _R[1] == literal`, ...; None when there is anything else."""
    expected: list[Any] = []
    for statement in statements:
        match statement:
            case ast.Assert(
                test=ast.Compare(
                    left=ast.Subscript(value=ast.Name(id="_R"), slice=ast.Constant(value=index)),
                    ops=[ast.Eq()],
                    comparators=[literal],
                )
            ) if index == len(expected):
                try:
                    expected.append(ast.literal_eval(literal))
                except ValueError:
                    return None
            case _:
                return None
    return tuple(expected)
