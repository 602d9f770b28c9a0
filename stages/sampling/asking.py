"""One problem to one model, as selection, RL and evaluation ask: the same prompt, and the greedy response."""

from dataclasses import dataclass
from pathlib import Path

from data.schema import Problem
from ring_model.checkpoint import load_model
from ring_model.generation import generate
from ring_model.model_types import is_ours
from ring_model.tokenizer import Tokenizer
from stages.sampling.answering import response_text
from stages.sampling.prompting import prompt_ids, prompt_text


@dataclass(frozen=True, slots=True)
class Response:
    """What a model said."""

    prompt: str  # the problem with its domain's instruction, before the chat template
    response: str  # behind the prompt; it begins with `<think>` where the template does not open the thinking
    tokens: int
    finished: bool  # it ended by itself


def respond(folder: Path, problem: Problem, *, max_new_tokens: int) -> Response:
    """Ask the model of a folder. Raises ValueError for a folder that holds none, and a prompt that leaves no room."""
    if not is_ours(folder):
        return _respond_by_transformers(folder, problem, max_new_tokens=max_new_tokens)
    model, tokenizer = load_model(folder), Tokenizer.from_folder(folder)
    (completion,) = generate(
        model,
        [prompt_ids(tokenizer, problem)],
        seeds=[0],
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        eos_id=tokenizer.end_ids,
    )
    text = response_text(tokenizer, completion)
    return Response(prompt_text(problem), text, tokens=len(completion.token_ids), finished=completion.finished)


def _respond_by_transformers(folder: Path, problem: Problem, *, max_new_tokens: int) -> Response:
    from ring_model.causal_lm import load_causal_lm  # imports transformers, which takes seconds

    model = load_causal_lm(folder)
    prompt = model.prompt(prompt_text(problem))
    (made,) = model.respond([prompt.token_ids], seeds=[0], max_new_tokens=max_new_tokens, temperature=0.0)
    return Response(prompt_text(problem), model.text(made, prompt), len(made.token_ids), finished=made.finished)
