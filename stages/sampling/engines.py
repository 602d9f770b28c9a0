"""Which sampler asks the models of a chain: by their architecture, and for RL's rollouts by `rl.sampling.engine`."""

from pathlib import Path
from typing import TYPE_CHECKING

from ring_model.scorers import is_ours
from stages.config import RlSampling, Runtime
from stages.sampling.local import LocalSampler

if TYPE_CHECKING:
    from stages.sampling.causal_lm import CausalLmSampler
    from stages.sampling.vllm import VllmSampler


def chain_sampler(folder: Path, runtime: Runtime, *, published: Path) -> "LocalSampler | CausalLmSampler":
    """A `Sampler`, a context, for the models of a chain, of which `folder` is one: they are of one architecture."""
    if is_ours(folder):
        return LocalSampler(runtime, published=published)
    from stages.sampling.causal_lm import CausalLmSampler  # imports transformers, which takes seconds

    return CausalLmSampler(runtime, requires_thinking=True)


def publishing_sampler(
    sampling: RlSampling, runtime: Runtime, *, published: Path, tokenizer: Path
) -> "LocalSampler | CausalLmSampler | VllmSampler":
    """A `PublishingSampler`, a context. `published` takes weights, to which the tokenizer of a model folder belongs.

    Raises ValueError where vLLM is wanted and none is named, and where our own generator is to draw from another architecture.
    """
    if sampling.engine == "workers" and not is_ours(tokenizer):
        raise ValueError(
            f"rl.sampling.engine = 'workers' draws from our own architecture alone, and {tokenizer} holds another: "
            "set it to 'transformers', or to 'vllm'"
        )
    match sampling.engine:
        case "workers":
            return LocalSampler(runtime, published=published, tokenizer=tokenizer)
        case "transformers":
            from stages.sampling.causal_lm import CausalLmSampler  # imports transformers, which takes seconds

            return CausalLmSampler(runtime, published=published, tokenizer=tokenizer, requires_thinking=True)
        case "vllm":
            from stages.sampling.vllm import VllmSampler

            return VllmSampler(runtime, published=published, tokenizer=tokenizer, max_rows=sampling.max_rows)
