"""A digest of the code that a stage runs: its own first-party modules, transitively, as syntax trees.

Comments, docstrings and layout are left out, so changing one changes nothing; a changed line reruns the stages that import
it and what follows them. Modules that carry no arithmetic of a result are left out by name.
"""

import ast
import contextlib
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST_PARTY = ("data", "ring_model", "stages")
_TRIES = 5

# What these hold is hashed as values (config), only transports (stage), or says how results are kept (the rest).
NOT_IDENTITY = frozenset(
    {
        "stages.config",
        "stages.stage",
        "stages.recipe",
        "stages.records.artifact",
        "stages.records.code_digest",
        "stages.records.digests",
        "stages.records.tracking",
        "stages.records.provenance",
        "stages.errors",
    }
)


def module_digests(module: str, *, root: Path = ROOT) -> dict[str, str]:
    """Module -> sha256 of its normalised source, and of what its package carries besides: what `code_digest` is made of, by parts."""
    found: dict[str, str] = {}
    for name, path in sorted(reached_modules(module, root=root).items()):
        parts = [
            _source(path, path.stat().st_mtime_ns).normalised.encode(),
            *(one.read_bytes() for one in _package_files(path)),
        ]
        found[name] = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return found


def code_digest(module: str, *, root: Path = ROOT) -> str:
    """sha256 over the normalised sources of `module` and every first-party module it reaches. `module` is a dotted name."""
    digest = hashlib.sha256()
    for name, path in sorted(reached_modules(module, root=root).items()):
        digest.update(f"{name}\0{_source(path, path.stat().st_mtime_ns).normalised}\0".encode())
        for beside in _package_files(path):
            digest.update(f"{name}/{beside.name}\0".encode() + beside.read_bytes())
    return digest.hexdigest()


def file_digest(path: Path, *, root: Path = ROOT) -> str:
    """The same of a file outside the project, such as a domain of one's own, with what it imports of the project's.

    Raises ValueError for a file that is no Python.
    """
    try:
        source = _source(path, path.stat().st_mtime_ns)
    except SyntaxError as error:
        raise ValueError(f"{path}: is no Python: {error}; mend it") from error
    named = {name for base, names in source.imports for name in (base, *(f"{base}.{item}" for item in names))}
    digest = hashlib.sha256(source.normalised.encode())
    for module in sorted(name for name in named if _module_path(name, root)):
        digest.update(f"{module}\0{code_digest(module, root=root)}\0".encode())
    return digest.hexdigest()


def _package_files(path: Path) -> list[Path]:
    """What a package carries besides modules, such as a page template."""
    if path.name != "__init__.py":
        return []
    return sorted(file for file in path.parent.iterdir() if file.is_file() and file.suffix != ".py")


def reached_modules(module: str, *, root: Path = ROOT) -> dict[str, Path]:
    """First-party modules imported by `module`, directly or not, at any depth of the source, with their files."""
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        path = _module_path(name, root)
        if path is None or name in found or name in NOT_IDENTITY:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for base, names in _source(path, path.stat().st_mtime_ns).imports:
            base = _absolute(base, package=package)
            pending += [base, *(f"{base}.{item}" for item in names)]
        pending.extend(_parents(name))
    return found


def _module_path(name: str, root: Path) -> Path | None:
    if name.split(".")[0] not in FIRST_PARTY:
        return None
    base = root.joinpath(*name.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@dataclass(frozen=True, slots=True)
class _Source:
    """What a file's syntax tree says. `imports`: module, with a dot in front for each level above, and the names taken from it."""

    normalised: str
    imports: tuple[tuple[str, tuple[str, ...]], ...]


@functools.cache
def _source(path: Path, _modified_ns: int) -> _Source:
    """Read once a process while the file stays: stages share most modules, and parsing takes most of a plan's time."""
    tree = _parsed(path)
    return _Source(imports=tuple(_imports(tree)), normalised=_normalised(tree))


def _imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)


def _absolute(base: str, *, package: str) -> str:
    module = base.lstrip(".")
    level = len(base) - len(module)
    above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
    return ".".join([*above, *([module] if module else [])])


def _parsed(path: Path) -> ast.Module:
    """The file's syntax tree. Tried again where CPython, which counts the depth of trees for all threads together, errs (gh-106905)."""
    text = path.read_text(encoding="utf-8")
    for _ in range(_TRIES - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


def _normalised(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = _without_docstring(node.body)
    return ast.dump(tree)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body
