"""Edits of a source file are at one place each, are those that were meant, and are the same for the same seed."""

import ast
import difflib
from pathlib import Path

import pytest

from benchmarks.source_edits import drawn, edits_of
from benchmarks.source_mutants import ROOT, SAME, file_of_tests, folder_of_tests, main, mutants_of

TOY = '''"""A text with 1 number."""
import time

from x import y as log


@decorated(limit=3)
def f(a: int = 0, *, flag: bool = True) -> "Literal[1, 2]":
    """Two lines, 2."""
    assert a > 1
    started = time.monotonic()
    if a < 3 and not flag:
        raise ValueError(f"{a + 1} is above {3}")
    log.message("a", a - 1)
    for i in range(a):
        a += min(b[i:], 2)
    print(time.monotonic() - started, a == 2)
    b = zip(a, c, strict=True)
    return -a if flag else [c for c in b if c is not None]
'''
SHOWN = """
def f(a: int = 0, *, flag: bool = True) -> "Literal[1, 2]": -> def f(a: int = 1, *, flag: bool = True) -> "Literal[1, 2]":
def f(a: int = 0, *, flag: bool = True) -> "Literal[1, 2]": -> def f(a: int = 0, *, flag: bool = False) -> "Literal[1, 2]":
if a < 3 and not flag: -> if not (a < 3 and not flag):
if a < 3 and not flag: -> if a <= 3 and not flag:
if a < 3 and not flag: -> if a < 4 and not flag:
if a < 3 and not flag: -> if a < 3 or not flag:
if a < 3 and not flag: -> if a < 3 and flag:
for i in range(a): -> for i in range((a) + 1):
a += min(b[i:], 2) -> a -= min(b[i:], 2)
a += min(b[i:], 2) -> a += max(b[i:], 2)
a += min(b[i:], 2) -> a += min(b[(i) + 1:], 2)
a += min(b[i:], 2) -> a += min(b[i:], 3)
return -a if flag else [c for c in b if c is not None] -> return a if flag else [c for c in b if c is not None]
return -a if flag else [c for c in b if c is not None] -> return -a if not (flag) else [c for c in b if c is not None]
return -a if flag else [c for c in b if c is not None] -> return -a if flag else [c for c in b if c is None]
""".strip().splitlines()  # fmt: skip


def test_the_edits_of_a_text_are_its_signs_comparisons_constants_conditions_and_bounds_and_no_others() -> None:
    assert sorted(edit.shown(TOY) for edit in edits_of(TOY)) == sorted(SHOWN)
    assert next(edit.line(TOY) for edit in edits_of(TOY)) == 8


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = a - b\n", ["x = a + b\n"]),
        ("x = (a) + (  # +\n    b)\n", ["x = (a) - (  # +\n    b)\n"]),
        ("x = 'ä' == a\n", ["x = 'ä' != a\n"]),
        ("x = a not in b\n", ["x = a in b\n"]),
        ("x = a <= b <= c\n", ["x = a < b <= c\n", "x = a <= b < c\n"]),
        ("x = not (a or b)\n", ["x = (a or b)\n", "x = not (a and b)\n"]),
        ("x = -(-a // b)\n", ["x = (-a // b)\n", "x = -(a // b)\n"]),
        ("x = a[:-1]\n", ["x = a[:1]\n", "x = a[:-0]\n"]),
        ("x = 1_000 * 0.5\n", ["x = 1001 * 0.5\n", "x = 1_000 * 1.5\n"]),
        ("x: Final[int] = False\n", ["x: Final[int] = True\n"]),
        ("while a:\n    pass\n", ["while not (a):\n    pass\n"]),
        ("if a == b:\n    pass\n", ["if a != b:\n    pass\n"]),
        ("x = a + 'b' + f'{c - 1}'\n", []),
        ("__slots__ = (1, 2)\n", []),
        ("if __name__ == '__main__':\n    f()\n", []),
    ],
)
def test_an_edit_is_made_in_the_text_itself(before: str, after: list[str]) -> None:
    assert sorted(edit.applied(before) for edit in edits_of(before)) == sorted(after)


def test_every_edit_of_real_files_is_at_one_place_compiles_and_changes_the_program() -> None:
    for path in sorted((ROOT / "stages" / "training").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for edit in edits_of(text):
            edited = edit.applied(text)
            compile(edited, str(path), "exec")
            assert ast.dump(ast.parse(edited)) != ast.dump(ast.parse(text))
            changed = [line[0] for line in difflib.ndiff(text.splitlines(), edited.splitlines()) if line[0] in "+-"]
            assert changed == ["-", "+"]


def test_the_same_seed_draws_the_same_edits_and_another_seed_others() -> None:
    sources = [Path("stages/training/schedule.py"), Path("stages/training/trainer.py")]
    drawn_by = [[one.described for one in mutants_of(sources, per_file=5, seed=seed)] for seed in (0, 0, 1)]
    assert len(set(drawn_by[0])) == 10
    assert drawn_by[0] == drawn_by[1] != drawn_by[2]
    alone = [one.described for one in mutants_of(sources[1:], per_file=5, seed=0)]
    assert alone == drawn_by[0][5:]
    edits = edits_of(TOY)
    assert drawn(edits, number=100, seed="") == edits


def test_the_folder_of_tests_a_file_are_in_the_folder_that_mirrors_its_own() -> None:
    source = Path("stages/rl/losses.py")
    folder = Path("tests/stages/rl")
    assert (folder_of_tests(source), file_of_tests(source)) == (folder, folder / "test_losses.py")


def test_the_edits_that_change_nothing_are_edits_of_their_files_and_are_not_drawn() -> None:
    for source, reasons in SAME.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        assert reasons.keys() <= {edit.shown(text) for edit in edits_of(text)}, source
        every = {mutant.edit.shown(text) for mutant in mutants_of([Path(source)], per_file=1000, seed=0)}
        assert not every & reasons.keys()


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="copies what git knows")
def test_the_command_runs_the_tests_on_each_edit_and_leaves_the_tree_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = ROOT / "stages" / "training" / "schedule.py"
    before = source.read_bytes()
    code = main(["stages/training/schedule.py", "--per-file", "4", "--fast", "--least", "0.75"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].startswith("stages/training/schedule.py: killed ") and lines[0].endswith(" of 4")
    assert lines[-1].startswith("mutants killed ")
    assert source.read_bytes() == before
