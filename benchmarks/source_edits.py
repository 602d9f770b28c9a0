"""Small seeded edits of a Python file, each of which ought to make a test fail: what `source_mutants` runs the tests on.

In: the text of a file. Out: edits at one place each, found by the syntax tree and made in the text itself, so that nothing else
moves. Left alone is what no test should hang on: annotations, decorators, assertions, `strict=` of `zip`, what is raised, texts for
people (strings, f-strings, calls of a log), and statements that read or compute with a clock.
"""

import ast
import bisect
import io
import random
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SKIPPED_TOKENS = frozenset({tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT})
COMPARISONS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "is": "is not", "is not": "is", "in": "not in", "not in": "in",
}  # fmt: skip
SIGNS: dict[type[ast.operator], tuple[str, str]] = {ast.Add: ("+", "-"), ast.Sub: ("-", "+")}
EXTREMES = {"min": "max", "max": "min"}
LOG_NAMES = frozenset({"log", "_log", "logger"})
LOG_CALLS = frozenset({"progress", "message", "resumed", "error", "warning", "info", "debug"})
TEXT_CALLS = frozenset({"print", "sys.stderr.write", "sys.stdout.write", "warnings.warn"})
CLOCKS = frozenset({"time.monotonic", "time.perf_counter", "time.time", "time.process_time"})
CONDITIONS_OF_TOOLS = frozenset({"TYPE_CHECKING", "__name__ == '__main__'"})


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """A replacement in a text."""

    start: int  # characters from the beginning
    end: int
    new: str

    def applied(self, text: str) -> str:
        """The text after it."""
        return text[: self.start] + self.new + text[self.end :]

    def line(self, text: str) -> int:
        """Number of the line in which it begins, from 1."""
        return text.count("\n", 0, self.start) + 1

    def shown(self, text: str) -> str:
        """The lines before and after it, on one line."""
        start, end = text.rfind("\n", 0, self.start) + 1, text.find("\n", self.end)
        end = len(text) if end < 0 else end
        after = text[start : self.start] + self.new + text[self.end : end]
        return " -> ".join(" ".join(part.split()) for part in (text[start:end], after))


def drawn(edits: Sequence[Edit], *, number: int, seed: str) -> list[Edit]:
    """At most `number` of them, by chance, in the order of their places."""
    return sorted(random.Random(seed).sample(edits, min(number, len(edits))))


def edits_of(text: str) -> list[Edit]:
    """Every edit of a file, in the order of the places."""
    source = _Source.of(text)
    finder = _Finder(source, clocks=_clock_names(source.tree))
    finder.visit(source.tree)
    return sorted(finder.found)


# ---------------------------------------------------------------- places in the text


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Source:
    """A text, its tree, and its tokens by place."""

    text: str
    tree: ast.Module
    line_starts: Sequence[int]
    tokens: Sequence[_Token]

    @classmethod
    def of(cls, text: str) -> "_Source":
        lines = text.splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        tokens = [
            _Token(starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1], token.string)
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type not in SKIPPED_TOKENS and token.string
        ]
        return cls(text, ast.parse(text), starts, tokens)

    def _place(self, line: int, column: int) -> int:
        """The tree counts columns in bytes."""
        start = self.line_starts[line - 1]
        return start + len(self.text[start : self.line_starts[line]].encode()[:column].decode())

    def start(self, node: ast.expr) -> int:
        return self._place(node.lineno, node.col_offset)

    def end(self, node: ast.expr) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._place(node.end_lineno, node.end_col_offset)

    def segment(self, node: ast.expr) -> str:
        return self.text[self.start(node) : self.end(node)]

    def between(self, start: int, end: int) -> list[_Token]:
        """Tokens from one place up to another, without parentheses."""
        first = bisect.bisect_left(self.tokens, start, key=lambda token: token.start)
        last = bisect.bisect_left(self.tokens, end, key=lambda token: token.start)
        return [token for token in self.tokens[first:last] if token.text not in "()"]


# ---------------------------------------------------------------- what is left alone


def _dotted(node: ast.AST) -> str:
    """`a.b.c` of names and attributes, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def _clock_names(tree: ast.Module) -> frozenset[str]:
    """Names and attributes that hold the time of a clock."""
    targets = [
        target
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _reads_clock(node.value, frozenset())
        for target in node.targets
    ]
    leaves = [leaf for target in targets for leaf in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return frozenset(filter(None, map(_dotted, leaves)))


def _reads_clock(node: ast.AST, names: frozenset[str]) -> bool:
    return any(_dotted(child) in CLOCKS | names for child in ast.walk(node))


def _is_for_people(call: ast.Call) -> bool:
    if _dotted(call.func) in TEXT_CALLS:
        return True
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr in LOG_CALLS
        and _dotted(function.value).rpartition(".")[2] in LOG_NAMES
    )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


class _Finder(ast.NodeVisitor):
    """Collects the edits of a tree."""

    def __init__(self, source: _Source, *, clocks: frozenset[str]) -> None:
        self.source, self.clocks = source, clocks
        self.found: set[Edit] = set()

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assert | ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.stmt) and any(_reads_clock(part, self.clocks) for part in _own_expressions(node)):
            self._visit_blocks(node)
            return
        super().visit(node)

    def _visit_blocks(self, node: ast.stmt) -> None:
        """The statements inside, and not the head."""
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr):
                self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in node.body:
            self.visit(part)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(_dotted(target) == "__slots__" for target in node.targets):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _is_for_people(node):
            return
        if _dotted(node.func) == "range":
            for bound in node.args[:2]:
                self._one_more(bound)
        if _dotted(node.func) == "zip":
            node.keywords[:] = [keyword for keyword in node.keywords if keyword.arg != "strict"]
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if _dotted(node.value).rpartition(".")[2] == "Literal":
            return
        self.generic_visit(node)

    # ------------------------------------------------------------ the edits

    def _replace(self, start: int, end: int, new: str) -> None:
        self.found.add(Edit(start, end, new))

    def _replace_operator(self, after: ast.expr, before: ast.expr, table: Mapping[str, str]) -> None:
        """The operator between two expressions."""
        tokens = self.source.between(self.source.end(after), self.source.start(before))
        name = " ".join(token.text for token in tokens)
        if name in table:
            self._replace(tokens[0].start, tokens[-1].end, table[name])

    def _one_more(self, bound: ast.expr | None) -> None:
        """Off by one; that of a constant is `visit_Constant`'s."""
        if bound is None or isinstance(bound, ast.Constant | ast.UnaryOp | ast.Starred):
            return
        self._replace(self.source.start(bound), self.source.end(bound), f"({self.source.segment(bound)}) + 1")

    def visit_Slice(self, node: ast.Slice) -> None:
        self._one_more(node.lower)
        self._one_more(node.upper)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in SIGNS and not (_is_text(node.left) or _is_text(node.right)):
            self._replace_operator(node.left, node.right, dict([SIGNS[type(node.op)]]))
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in SIGNS and not _is_text(node.value):
            old, new = SIGNS[type(node.op)]
            self._replace_operator(node.target, node.value, {f"{old}=": f"{new}="})
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub | ast.Not):
            token = self.source.between(self.source.start(node), self.source.end(node))[0]
            blank = len(self.source.text[token.end :]) - len(self.source.text[token.end :].lstrip(" "))
            self._replace(token.start, token.end + blank, "")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
            self._replace_operator(left, right, COMPARISONS)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._replace_operator(left, right, {"and": "or", "or": "and"})
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in EXTREMES and isinstance(node.ctx, ast.Load):
            self._replace(self.source.start(node), self.source.end(node), EXTREMES[node.id])

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            new = str(not value)
        elif isinstance(value, int | float):
            more = value + 1 if value + 1 != value else value / 2  # of the largest floats
            new = repr(type(value)(1 - value if value in (0, 1) else more))
        else:
            return
        self._replace(self.source.start(node), self.source.end(node), new)

    def _invert(self, test: ast.expr) -> None:
        """Not where another edit says the same."""
        is_one_relation = isinstance(test, ast.Compare) and len(test.ops) == 1
        if isinstance(test, ast.Constant | ast.UnaryOp) or (
            is_one_relation and not isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        ):
            return
        self._replace(self.source.start(test), self.source.end(test), f"not ({self.source.segment(test)})")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in CONDITIONS_OF_TOOLS:
            return
        self._invert(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._invert(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._invert(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._invert(test)
        self.generic_visit(node)


def _own_expressions(node: ast.stmt) -> Iterator[ast.expr]:
    """Those of a statement's head, or of all of it where it holds no others."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
