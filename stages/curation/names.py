"""Names that a reference program uses and nothing defines, so that a reader sees what it wants: `TreeNode`, `numpy`.

The sandbox says which exception ended a program and nothing that the program wrote, so the names are read from the source.
"""

import ast
import builtins
import sys
from collections.abc import Iterator


def unresolved_names(*sources: str) -> list[str]:
    """Names that none of the sources binds in any scope, and modules that Python does not bring; of those that are Python."""
    nodes = [node for source in sources for node in _nodes(source)]
    bound = {name for node in nodes for name in _bound(node)} | set(dir(builtins))
    loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    modules = {name.split(".")[0] for node in nodes for name in _imported(node)}
    return sorted((loaded - bound) | (modules - sys.stdlib_module_names))


def _nodes(source: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _bound(node: ast.AST) -> Iterator[str]:
    """What a statement gives a name to."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.split(".")[0] for alias in aliases)


def _imported(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.ImportFrom(module=str(module), level=0):
            yield module
