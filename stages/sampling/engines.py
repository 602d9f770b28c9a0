"""Which sampler draws RL's rollouts: `rl.sampling.engine`."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.config import RlSampling, Runtime
from stages.sampling.local import LocalSampler

if TYPE_CHECKING:
    from stages.sampling.causal_lm import CausalLmSampler
    from stages.sampling.vllm import VllmSampler


def publishing_sampler(
    sampling: RlSampling, runtime: Runtime, *, published: Path, tokenizer: Path
) -> "LocalSampler | CausalLmSampler | VllmSampler":
    """A `PublishingSampler`, a context. `published` takes weights, to which the tokenizer of a model folder belongs.

    Raises ValueError where vLLM is wanted and none is named.
    """
    match sampling.engine:
        case "workers":
            return LocalSampler(runtime, published=published, tokenizer=tokenizer)
        case "transformers":
            from stages.sampling.causal_lm import CausalLmSampler  # imports transformers, which takes seconds

            return CausalLmSampler(runtime, published=published, tokenizer=tokenizer, requires_thinking=True)
        case "vllm":
            from stages.sampling.vllm import VllmSampler

            return VllmSampler(runtime, published=published, tokenizer=tokenizer, max_rows=sampling.max_rows)
