"""The card beside a model's files: it asks as training does, whatever stands in a domain's instruction."""

import ast
from pathlib import Path

import pytest

from data.domains import DOMAINS, PLAIN_DOMAINS
from stages.training.model_card import CARD, EXAMPLE, _quoted, snippet, write_card


def test_the_lines_of_the_card_state_the_instruction_of_every_domain() -> None:
    tree = ast.parse(snippet())
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(values["INSTRUCTION"]) == {name: DOMAINS[name].prompt_suffix for name in PLAIN_DOMAINS}


def test_the_lines_of_the_card_compile_and_ask_the_example() -> None:
    compile(snippet(), "card", "exec")
    assert snippet().splitlines()[-1] == f'print(answer("{EXAMPLE}", "math"))'


def test_the_card_is_the_readme_of_the_folder_and_holds_the_lines_once(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text("of another time")
    write_card(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# How to ask this model\n")
    assert text.count(f"```python\n{snippet()}\n```\n") == 1


@pytest.mark.parametrize("suffix", ['say "why"\n', "a \\boxed{} \\n", "Größe ≥ 1", "\n\n"])
def test_an_instruction_is_quoted_whatever_stands_in_it(suffix: str) -> None:
    assert ast.literal_eval(_quoted(suffix)) == suffix
    assert len(_quoted(suffix).splitlines()) == 1
