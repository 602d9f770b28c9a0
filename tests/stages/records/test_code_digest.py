"""The code digest: comments and docstrings change nothing, a changed line changes what imports it and nothing else."""

import ast

import pytest

from stages.records.code_digest import _source, code_digest, module_digests, reached_modules


@pytest.fixture
def tree(tmp_path):
    for name, text in {
        "stages/__init__.py": "",
        "stages/rl.py": "from stages import losses\nfrom data.schema import X\n",
        "stages/losses.py": "def loss(x):\n    return x * 2\n",
        "stages/sft.py": "import data.schema\n",
        "data/__init__.py": "",
        "data/schema.py": "X = 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def digests(tree):
    return {name: code_digest(f"stages.{name}", root=tree) for name in ("rl", "sft")}


def rewrite(tree, name, text):
    (tree / name).write_text(text)


def test_a_comment_a_docstring_and_layout_change_nothing(tree):
    before = digests(tree)
    rewrite(
        tree,
        "stages/losses.py",
        '"""Losses."""\n\n\ndef loss(x):\n    """Twice."""\n    # why\n    return (x *\n            2)\n',
    )
    assert digests(tree) == before


def test_a_changed_line_changes_the_stages_that_reach_it_and_no_other(tree):
    before = digests(tree)
    rewrite(tree, "stages/losses.py", "def loss(x):\n    return x * 3\n")
    after = digests(tree)
    assert after["rl"] != before["rl"] and after["sft"] == before["sft"]


def test_what_both_import_changes_both(tree):
    before = digests(tree)
    rewrite(tree, "data/schema.py", "X = 2\n")
    assert all(after != before[name] for name, after in digests(tree).items())


def test_sft_does_not_reach_the_rl_losses_and_rl_does():
    assert "stages.rl.losses" in reached_modules("stages.rl")
    assert "stages.rl.losses" not in reached_modules("stages.sft")
    assert "ring_model.engine" in reached_modules("stages.sft")


def test_a_slip_of_the_parser_among_threads_is_tried_again_and_a_lasting_one_is_told(monkeypatch):
    digest = code_digest("stages.report")
    parse, slips = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=78, after=77)")] * 2

    def slipping(text):
        if slips:
            raise slips.pop()
        return parse(text)

    monkeypatch.setattr(ast, "parse", slipping)
    _source.cache_clear()
    assert code_digest("stages.report") == digest
    slips.extend([SystemError("broken")] * 100)
    _source.cache_clear()
    with pytest.raises(SystemError, match="broken"):
        code_digest("stages.report")


def test_the_parts_say_which_module_differs(tree):
    before = module_digests("stages.rl", root=tree)
    assert list(before) == ["data", "data.schema", "stages", "stages.losses", "stages.rl"]
    rewrite(tree, "stages/losses.py", "def loss(x):\n    return x * 3\n")
    after = module_digests("stages.rl", root=tree)
    assert [name for name in before if before[name] != after[name]] == ["stages.losses"]
