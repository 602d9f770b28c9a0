"""The README.md of a trained model's folder: lines that ask it as training and evaluation did, so that it answers as recorded."""

from pathlib import Path

from data.domains import DOMAINS, PLAIN_DOMAINS

CARD = "README.md"
EXAMPLE = "solve 8 x + 5 = 6 x + 17"

_TEXT = """# How to ask this model

It was trained, and evaluated, on problems that end with the instruction of their domain. Without it, or without the chat template, it
answers otherwise. The lines below ask as the evaluation does; with `do_sample=False` they give its greedy answers, token for token.
`ring_model` comes with the project (`make setup`).

```python
{snippet}
```
"""

_SNIPPET = """import ring_model  # makes transformers know the architecture
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = "."  # this folder
INSTRUCTION = {{
{instructions}
}}

model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)


def answer(problem, domain, max_new_tokens=128):
    turn = [{{"role": "user", "content": problem + INSTRUCTION[domain]}}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    ids = model.generate(**prompt, do_sample=False, max_new_tokens=max_new_tokens)
    return tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :])


print(answer("{example}", "math"))"""


def snippet() -> str:
    """Python that asks the model of a folder, by transformers alone."""
    lines = [f'    "{name}": {_quoted(DOMAINS[name].prompt_suffix)},' for name in PLAIN_DOMAINS]
    return _SNIPPET.format(instructions="\n".join(lines), example=EXAMPLE)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def write_card(folder: Path) -> None:
    """Write the card beside the model's files."""
    (folder / CARD).write_text(_TEXT.format(snippet=snippet()), encoding="utf-8")
