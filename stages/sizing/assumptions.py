"""What a plan takes for granted because no recipe says it: each is an option of `ring plan`, and each is printed with the result."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

_SHARES = ("training_efficiency", "decoding_efficiency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Options with our defaults; None: it follows from the recipe, and the plan says how."""

    training_efficiency: float = 0.3
    """FLOPs of the model over the peak (model-FLOPs utilisation), without what activation checkpointing computes again."""
    decoding_efficiency: float = 0.5
    """Share of the memory's bandwidth that decoding reaches."""
    margin: float = 0.1
    """Share of the memory that stays free, for CUDA, NCCL and fragments."""
    layer_milliseconds: float = 1.0
    """Least time of a decoding step for each layer: our own sampler launches kernel after kernel; 0 for an engine that does not."""
    prompt_tokens: int | None = None
    """Mean length of a prompt; none: by the characters of --data-dir, 3 a token, else 200."""
    response_tokens: int | None = None
    """Mean length of a sampled response; none: the length at which a step of RL just fills its token budget."""
    sft_tokens: int | None = None
    """Mean length of a row of SFT, prompt and solution; none: by the characters of --data-dir, else as prompt and response of RL."""
    base_rows: int | None = None
    """Rows that a stand-in base model is trained on."""
    sft_rows: int | None = None
    """Rows of SFT."""
    rl_rows: int | None = None
    """Problems of RL, every one of which selection grades."""
    heldout_rows: int | None = None
    """Problems of evaluation beside the benchmarks."""
    benchmark_rows: int = 500
    """Rows of a benchmark whose rows are not frozen here."""
    vocab_size: int | None = None
    """Entries of the vocabulary, where no config.json tells."""
    sampler_gpus: int = 1
    """GPUs that share one copy of the weights while they sample; our own samplers hold a whole copy each."""

    def __post_init__(self) -> None:
        """Refuse what no plan can be made with."""
        for name, value in self._given():
            option = f"--{name.replace('_', '-')} = {value:g}"
            if name == "margin":
                if not 0 <= value < 1:
                    raise ValueError(f"{option} must be at least 0 and below 1")
            elif value < 0 or (value == 0 and not name.endswith(("_rows", "_milliseconds"))):
                raise ValueError(f"{option} must be above 0")
            elif name in _SHARES and value > 1:
                raise ValueError(f"{option} must be at most 1")

    def _given(self) -> Iterator[tuple[str, float]]:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                yield field.name, value


@dataclass(frozen=True, slots=True)
class Stated:
    """A value that a plan rests on and where it comes from, for people."""

    name: str
    value: float
    why: str
