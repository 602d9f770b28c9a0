"""Tests that assert, read by their syntax: what they name, what asserts, and what runs it.

In: setup and check of a row. Out: a `Plan`, or `Calls` where every assertion is `f(literals) == literal`, so that no test needs to run.
Success is evidence: behind each assertion stands `_ran(k)`, so that the process of the tests tells which of them held, and those that
nothing can pass by (`required`) must be among them. What can fail without being noticed is no assertion:
a tuple, a constant, what stands in a `try` that takes the failure, a function that nobody calls.

Tests run as pytest and unittest run them: functions `test*`, classes with methods `test*`, and HumanEval's `check(candidate)`.
"""

import ast
import builtins
import symtable
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data.sandbox.checking import ANSWER_MODULES

MARK = "_ran"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SKIPPING = ("skip", "skipIf", "skipUnless", "xfail", "expectedFailure")
_FIXTURES = ("capsys",)
_TAKES_FAILURES = ("Exception", "BaseException", "AssertionError")
_COMPARING = ("sorted", "max", "min", "sum", "hash", "set", "list")


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of the answer as expressions, what each must return, and the answer's names in them."""

    expressions: tuple[str, ...]
    expected: tuple[Any, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the process of the tests needs, and what must be seen of it."""

    source: str  # the tests with marks
    entry_point: str
    names: tuple[str, ...]  # of the answer
    canary_names: tuple[str, ...]  # with those that tests import from its module
    operators: tuple[str, ...]  # classes of the answer whose objects the tests compare or add up themselves
    collect: tuple[str, ...]  # functions and classes, in order
    required: frozenset[int]  # marks that must be seen
    num_marks: int


def plan(setup: str, check: str, *, entry_point: str) -> Calls | Plan | None:
    """None where nothing is asserted. Raises ValueError, SyntaxError, RecursionError or MemoryError for tests that cannot be run."""
    tree, prelude = ast.parse(check), ast.parse(setup)
    entry_point = entry_point or _imported_name(tree) or _shadowing_name(tree, prelude)
    collect = _collected(tree, entry_point)
    tree.body += _calls_of_checks(tree, entry_point)
    if not collect and (calls := _calls(tree, prelude, entry_point)) is not None:
        return calls
    names = _names(tree, prelude, entry_point)
    operators = _operators(tree, names)
    marker = _Marker(_reached(tree, collect), collect)
    tree.body = marker.block(tree.body, is_straight=True)
    if not marker.num_marks:
        return None
    return Plan(
        ast.unparse(ast.fix_missing_locations(tree)),
        entry_point,
        names,
        canary_names=tuple(sorted({*names, *_imported_names(tree)})),
        operators=operators,
        collect=collect,
        required=frozenset(marker.required),
        num_marks=marker.num_marks,
    )


# ---------------------------------------------------------------- what is run


def _collected(tree: ast.Module, entry_point: str) -> tuple[str, ...]:
    """Functions and classes that pytest or unittest would run, unless the tests run them themselves."""
    called = set(_called_by_module(tree))
    found = []
    for node in tree.body:
        is_test = isinstance(node, _FUNCTIONS) and _is_test_method(node) and not _takes_candidate(node, entry_point)
        if is_test and node.name not in called and not _is_skipped(node):
            _require_fixtures(node, tree)
            found.append(node.name)
        if isinstance(node, ast.ClassDef) and not _is_skipped(node) and any(map(_is_test_method, node.body)):
            node.body = [part for part in node.body if not (_is_test_method(part) and _is_skipped(part))]
            node.body = node.body or [ast.Pass()]
            found.append(node.name)
    return tuple(found)


def _called_by_module(tree: ast.Module) -> Iterator[str]:
    """Names of functions called outside of functions and classes."""
    for statement in tree.body:
        if not isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    yield node.func.id


def _is_test_method(node: ast.stmt) -> bool:
    return isinstance(node, _FUNCTIONS) and node.name.startswith("test")


def _is_skipped(node: ast.stmt) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(_last_name(decorator) in _SKIPPING for decorator in decorators)


def _last_name(node: ast.expr) -> str:
    """`skip` of `@unittest.skip("why")`."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _parameters(function: _Function) -> list[str]:
    """Those without a default."""
    names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
    return names[: len(names) - len(function.args.defaults)]


def _takes_candidate(function: _Function, entry_point: str) -> bool:
    """HumanEval's shape, under the name check or test."""
    return len(_parameters(function)) == 1 and _parameters(function)[0] in ("candidate", entry_point or "candidate")


def _require_fixtures(function: _Function, tree: ast.Module) -> None:
    """Raises ValueError where pytest's own fixtures or plugins would be needed."""
    known = {node.name for node in tree.body if isinstance(node, _FUNCTIONS)} | set(_FIXTURES)
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and _last_name(decorator) == "parametrize" and decorator.args:
            known |= _names_of_parameters(decorator.args[0])
    if unknown := [name for name in _parameters(function) if name not in known]:
        raise ValueError(f"{function.name} needs {', '.join(unknown)}")


def _names_of_parameters(node: ast.expr) -> set[str]:
    constants = [
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    return {name.strip() for text in constants for name in text.split(",")}


def _calls_of_checks(tree: ast.Module, entry_point: str) -> list[ast.stmt]:
    """Calls of functions that take the candidate, or are called `check`, and that nobody calls."""
    called = set(_called_by_module(tree))
    made: list[ast.stmt] = []
    for node in tree.body:
        if not isinstance(node, _FUNCTIONS) or node.name in called:
            continue
        is_test = node.name.startswith("test") and _takes_candidate(node, entry_point)
        if node.name != "check" and not is_test:
            continue
        num_arguments = len(_parameters(node))
        if num_arguments > 1 or (num_arguments == 1 and not entry_point):
            raise ValueError(f"what {node.name} takes is not known")
        call = f"{node.name}({entry_point if num_arguments else ''})"
        is_async = isinstance(node, ast.AsyncFunctionDef)
        made += ast.parse(f"import asyncio\nasyncio.run({call})" if is_async else call).body
    return made


def _imported_name(tree: ast.Module) -> str:
    """The one name that tests import from the answer's module."""
    names = _imported_names(tree)
    return names[0] if len(names) == 1 else ""


def _imported_names(tree: ast.Module) -> list[str]:
    return [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ANSWER_MODULES
        for alias in node.names
        if alias.name != "*"
    ]


def _shadowing_name(tree: ast.Module, prelude: ast.Module) -> str:
    """The built-in function that tests assert about, where there is nothing else that could be the answer's."""
    pairs = [_compared(statement) for statement in tree.body]
    (root, *others) = {_root(pair[0]) for pair in pairs if pair is not None} or {None}
    if root is None or others or root not in dir(builtins) or _names(tree, prelude, ""):
        return ""
    return "" if root in _bound([*prelude.body, *tree.body]) else root


def _reached(tree: ast.Module, collect: Sequence[str]) -> set[str]:
    """Names of functions and methods that something that runs names."""
    functions: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            functions.setdefault(node.name, []).append(node)
    reached: set[str] = set()
    open_nodes: list[ast.AST] = [node for node in tree.body if not isinstance(node, (*_FUNCTIONS, ast.ClassDef))]
    open_nodes += [function for name in collect for function in functions[name]]
    reached |= set(collect)
    while open_nodes:
        for name in _used_names(open_nodes.pop()):
            if name in functions and name not in reached:
                reached.add(name)
                open_nodes += functions[name]
    return reached


def _used_names(node: ast.AST) -> Iterator[str]:
    """What a node names outside of functions that are defined in it; of a class its test methods, and those that unittest calls."""
    open_nodes = [node]
    is_first = True
    while open_nodes:
        part = open_nodes.pop()
        if isinstance(part, _FUNCTIONS) and not is_first:
            if _is_test_method(part) or part.name in (
                "setUp",
                "setUpClass",
                "tearDown",
                "tearDownClass",
                "setup_method",
                "__init__",
            ):
                yield part.name
            open_nodes += part.decorator_list
            continue
        is_first = False
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr
        elif isinstance(part, ast.arg):
            yield part.arg
        open_nodes += ast.iter_child_nodes(part)


# ---------------------------------------------------------------- what asserts


class _Marker:
    """Puts `_ran(k)` behind what asserts."""

    def __init__(self, reached: set[str], collect: Sequence[str]) -> None:
        self.num_marks = 0
        self.required: set[int] = set()
        self._reached, self._collect = reached, collect

    def block(self, statements: Sequence[ast.stmt], *, is_straight: bool, counts: bool = True) -> list[ast.stmt]:
        """`is_straight`: nothing can pass these by. Not `counts`: what fails here is not noticed."""
        marked: list[ast.stmt] = []
        for statement in statements:
            if _runs_collected(statement):
                statement = ast.Pass()
            asserts = self._asserts(statement)
            self._inside(statement, is_straight=is_straight, counts=counts)
            marked.append(statement)
            if asserts and counts:
                marked.append(self._mark(is_required=is_straight))
        return marked

    def _mark(self, *, is_required: bool) -> ast.stmt:
        if is_required:
            self.required.add(self.num_marks)
        self.num_marks += 1
        return ast.parse(f"{MARK}({self.num_marks - 1})").body[0]

    def _asserts(self, statement: ast.stmt) -> bool:
        match statement:
            case ast.Assert(test=test):
                return _says_something(test)
            case ast.Expr(value=ast.Call() as call) | ast.Expr(value=ast.Await(value=ast.Call() as call)):
                is_assertion = _last_name(call).startswith("assert")
                return is_assertion and any(
                    _says_something(arg) for arg in (*call.args, *(word.value for word in call.keywords))
                )
            case ast.With() | ast.AsyncWith():
                return any(_expects_failure(item.context_expr) for item in statement.items)
            case ast.Try():
                fails = [*statement.orelse, *([] if _takes_failure(statement) else statement.body)]
                return any(map(_must_not_be_reached, fails))
        return False

    def _inside(self, statement: ast.stmt, *, is_straight: bool, counts: bool) -> None:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if statement.name in self._reached:
                    is_test = is_straight and (
                        statement.name in (*self._collect, "check") or _is_test_method(statement)
                    )
                    statement.body = self.block(statement.body, is_straight=is_test)
            case ast.ClassDef():
                if statement.name in self._reached:
                    statement.body = self.block(
                        statement.body, is_straight=is_straight and statement.name in self._collect
                    )
            case ast.If():
                is_main = ast.unparse(statement.test) in ("__name__ == '__main__'", "'__main__' == __name__")
                statement.body = self.block(statement.body, is_straight=is_straight and is_main, counts=counts)
                statement.orelse = self.block(statement.orelse, is_straight=False, counts=counts)
            case ast.For() | ast.AsyncFor() | ast.While():
                statement.body = self.block(statement.body, is_straight=False, counts=counts)
                statement.orelse = self.block(statement.orelse, is_straight=False, counts=counts)
            case ast.With() | ast.AsyncWith():
                is_open = not any(_ends_early(item.context_expr) for item in statement.items)
                is_noticed = not any(_last_name(item.context_expr) == "suppress" for item in statement.items)
                statement.body = self.block(
                    statement.body, is_straight=is_straight and is_open, counts=counts and is_noticed
                )
            case ast.Try():
                noticed = counts and not _takes_failure(statement)
                statement.body = self.block(
                    statement.body, is_straight=is_straight and not statement.handlers, counts=noticed
                )
                for handler in statement.handlers:
                    handler.body = self.block(handler.body, is_straight=False, counts=counts)
                statement.orelse = self.block(statement.orelse, is_straight=False, counts=counts)
                statement.finalbody = self.block(statement.finalbody, is_straight=is_straight, counts=counts)


def _runs_collected(statement: ast.stmt) -> bool:
    """`unittest.main()`, which would run once more what runs anyway, and end the process."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="unittest" | "pytest"), attr="main"))):
            return True
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(value=ast.Name(id="sys"), attr="exit"), args=[ast.Call() as call])
        ):
            return _runs_collected(ast.Expr(call))
    return False


def _says_something(test: ast.expr) -> bool:
    """It can fail: a tuple and a constant cannot, or always do."""
    if isinstance(test, ast.Tuple | ast.List | ast.Dict | ast.Set | ast.JoinedStr | ast.Lambda):
        return any(_says_something(part) for part in getattr(test, "elts", [])) and not isinstance(test, ast.Tuple)
    return any(isinstance(node, ast.Name | ast.Attribute | ast.Call) for node in ast.walk(test))


def _expects_failure(context: ast.expr) -> bool:
    """`pytest.raises(...)`, `self.assertRaises(...)` and their like, which must not be left without one."""
    name = _last_name(context)
    return isinstance(context, ast.Call) and (name == "raises" or name.startswith("assert"))


def _ends_early(context: ast.expr) -> bool:
    return _expects_failure(context) or _last_name(context) == "suppress"


def _takes_failure(statement: ast.Try) -> bool:
    """A handler takes an AssertionError and goes on."""
    return any(_takes(handler) and not any(map(_fails_again, ast.walk(handler))) for handler in statement.handlers)


def _takes(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or _last_name(kind) in _TAKES_FAILURES for kind in kinds)


def _fails_again(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise | ast.Assert) or (
        isinstance(node, ast.Call) and _last_name(node).startswith(("fail", "assert"))
    )


def _must_not_be_reached(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assert(test=ast.Constant(value=value)):
            return not value
        case ast.Raise():
            return True
        case ast.Expr(value=ast.Call() as call):
            return _last_name(call) == "fail"
    return False


# ---------------------------------------------------------------- what is the answer's


def _names(tree: ast.Module, prelude: ast.Module, entry_point: str) -> tuple[str, ...]:
    """Names that tests or setup use and do not define."""
    known = _bound([*prelude.body, *tree.body]) | set(dir(builtins)) | {MARK, "__file__"}
    loaded = {
        name
        for part in (prelude, tree)
        for name in _global_names(symtable.symtable(ast.unparse(part), "<tests>", "exec"))
    }
    return tuple(sorted((loaded - known) | ({entry_point} if entry_point.isidentifier() else set())))


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that a scope, or one inside it, looks for outside of functions."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _global_names(child)


def _bound(statements: Iterable[ast.stmt]) -> set[str]:
    """Names that these statements bind, but for those inside functions and classes."""
    names: set[str] = set()
    open_nodes: list[ast.AST] = list(statements)
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        open_nodes += ast.iter_child_nodes(node)
    return names


def _operators(tree: ast.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Classes of the answer of which the tests make objects that they compare, add up or sort: there its operators are what is tested."""
    classes = {name for name in names if name[:1].isupper()} | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ANSWER_MODULES
        for alias in node.names
        if alias.name[:1].isupper()
    }
    made = {}  # variables and attributes that hold such an object: its class
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and (kind := _made_class(node.value, classes)):
            made |= {_last_name(target): kind for target in node.targets}
    operands = [operand for node in ast.walk(tree) for operand in _operands(node)]
    operands = [operand for operand in operands if not _is_other_call(operand, classes)]
    found = {_made_class(operand, classes) or made.get(_last_name(operand), "") for operand in operands}
    return tuple(sorted(found - {""}))


def _made_class(node: ast.expr, classes: set[str]) -> str:
    """Of `Vector(1, 2)`."""
    return (
        node.func.id
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes
        else ""
    )


def _is_other_call(node: ast.expr, classes: set[str]) -> bool:
    return isinstance(node, ast.Call) and not _made_class(node, classes)


def _operands(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.AugAssign(value=value):
            return [value]
        case ast.Compare(left=left, ops=ops, comparators=others) if not all(
            isinstance(op, ast.Is | ast.IsNot) for op in ops
        ):
            return [left, *others]
        case ast.List(elts=elts) | ast.Set(elts=elts) | ast.Tuple(elts=elts):
            return elts
        case ast.Dict(keys=keys):
            return [key for key in keys if key is not None]
        case ast.Call(args=args) if _last_name(node).startswith("assert") or _last_name(node) in _COMPARING:
            return args
    return []


# ---------------------------------------------------------------- calls with literals


def _calls(tree: ast.Module, prelude: ast.Module, entry_point: str) -> Calls | None:
    """Where nothing but `assert f(...) == literal` is there, in `check(candidate)` or outside; None where there is more."""
    body = _body(tree, entry_point)
    statements = [statement for statement in body or [] if not _is_idle(statement)]
    if not statements:
        return None
    known = (_bound(prelude.body) | set(dir(builtins))) - {entry_point}
    bound = _bound(tree.body) - {entry_point}
    found = [_compared(statement) for statement in statements]
    expressions, expected, names = [], [], set()
    for pair in found:
        if pair is None:
            return None
        call, value = pair
        root = _root(call)
        used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
        if root is None or root in known or root in bound or used & bound:
            return None
        expressions.append(ast.unparse(call))
        expected.append(value)
        names.add(root)
    return Calls(tuple(expressions), tuple(expected), tuple(sorted(names)))


def _body(tree: ast.Module, entry_point: str) -> list[ast.stmt] | None:
    """The statements that test; of a function `check` its own, with the candidate in the place of its parameter."""
    functions = [node for node in tree.body if isinstance(node, (*_FUNCTIONS, ast.ClassDef))]
    if not functions:
        return tree.body
    (function, *others) = functions
    calls = [node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    called = [node.value for node in calls if isinstance(node.value, ast.Call) and _last_name(node.value) == "check"]
    if others or not isinstance(function, ast.FunctionDef) or function.name != "check" or len(called) != 1:
        return None
    if len(function.args.args) != 1 or len(called[0].args) != 1:
        return None
    rest = [node for node in tree.body if node is not function and getattr(node, "value", None) is not called[0]]
    substitute = _Substitute(function.args.args[0].arg, called[0].args[0])
    copied = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(copied, ast.FunctionDef)
    return [*rest, *(substitute.visit(statement) for statement in copied.body)]


def _is_idle(statement: ast.stmt) -> bool:
    """A docstring, `pass`, an import of the standard library, or a literal that gets a name."""
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return True
        case ast.Import(names=names):
            return all(alias.name.split(".")[0] in sys.stdlib_module_names for alias in names)
        case ast.ImportFrom(module=str(module), level=0):
            return module.split(".")[0] in sys.stdlib_module_names
        case ast.Assign(value=value):
            return _literal(value) is not None
    return False


def _compared(statement: ast.stmt) -> tuple[ast.Call, Any] | None:
    """Call and literal of `assert f(3) == 17`, whichever stands first."""
    match statement:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            for call, literal in ((left, right), (right, left)):
                value = _literal(literal)
                if isinstance(call, ast.Call) and value is not None:
                    return call, value[0]
    return None


def _literal(node: ast.expr) -> tuple[Any] | None:
    try:
        return (ast.literal_eval(node),)
    except (ValueError, TypeError):
        return None


def _root(function: ast.expr) -> str | None:
    """The name that a called expression begins with, as Solution in Solution().f."""
    while isinstance(function, ast.Attribute | ast.Call | ast.Subscript):
        function = function.func if isinstance(function, ast.Call) else function.value
    return function.id if isinstance(function, ast.Name) else None


class _Substitute(ast.NodeTransformer):
    """Put an expression in the place of a name."""

    def __init__(self, name: str, expression: ast.expr) -> None:
        self.name, self.expression = name, expression

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.expression if node.id == self.name else node
