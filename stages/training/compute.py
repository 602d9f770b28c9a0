"""How much arithmetic training takes, counted from lengths: the FLOPs by which arms are compared.

In: lengths of prompts and responses, and the sizes of a model. Out: FLOPs, whole numbers, the same on every machine: seconds are not.

A multiply and an add are two FLOPs. A forward pass takes

    2 x (A x tokens + V D x logits + 2 L W x pairs)

A: active parameters of the layers, that is of all L layers the attention's matrices, the router, the K routed experts that a token uses,
and the shared experts. `tokens` go through the layers; `logits` are those of them of which logits are computed, by the output matrix
of V x D; `pairs` are (token, token that it attends to, itself among them): for one a layer takes W multiply-adds for the score and W for
the mixture, W the width of all heads (D in ours). Training takes 3 forward passes: the backward pass has two products for each of the
forward's.

Not counted: what is no matrix product (the embedding, a look-up; norms, rotations, softmax, gates, the routers' choice, the optimiser,
the losses), padding, rows of a sampler that belong to no sample, what activation checkpointing computes again, and validation, RL's
probe, selection and evaluation: they look at a model and train none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ring_model.shape import Shape

TRAINING, SAMPLING, REFERENCE = "compute/training_flops", "compute/sampling_flops", "compute/reference_flops"
TOTAL = "compute/total_flops"
_PASSES = 3  # forward, and twice as much backward


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through a model."""

    tokens: int = 0  # through the layers
    logits: int = 0  # of them those whose logits are computed
    pairs: int = 0  # (token, token that it attends to), in one layer

    def __add__(self, other: "Work") -> "Work":
        return Work(self.tokens + other.tokens, self.logits + other.logits, self.pairs + other.pairs)


def row_work(prompt: int, response: int) -> Work:
    """A prompt with its response as one row, scored at the response's tokens: what training and the reference model do."""
    tokens = prompt + response
    return Work(tokens, response, _causal_pairs(tokens))


def sampling_work(prompt: int, responses: Sequence[int]) -> Work:
    """Responses of these lengths to one prompt, which is read once.

    The first token of a response is drawn from the logits of the prompt's last token; the last one is drawn, and not read again.
    """
    read = [length - 1 for length in responses]
    pairs = _causal_pairs(prompt)
    pairs += sum(_causal_pairs(prompt + length) - _causal_pairs(prompt) for length in read)
    return Work(prompt + sum(read), sum(responses), pairs)


def forward_flops(work: Work, model: Shape) -> int:
    """FLOPs of a forward pass."""
    of_pair = 2 * model.attention_width
    return 2 * (model.active_parameters * work.tokens + model.head_parameters * work.logits + of_pair * work.pairs)


def training_flops(work: Work, model: Shape) -> int:
    """FLOPs of a forward and a backward pass."""
    return _PASSES * forward_flops(work, model)


def compute_metrics(flops: Mapping[str, int]) -> dict[str, float]:
    """FLOPs by what they were spent on (TRAINING, SAMPLING, REFERENCE; what a stage does not do is left out), and their sum."""
    return {name: float(spent) for name, spent in flops.items()} | {TOTAL: float(sum(flops.values()))}


def _causal_pairs(tokens: int) -> int:
    return tokens * (tokens + 1) // 2
