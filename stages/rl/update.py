"""The gradient of a step from its rows in the journal: deal them to ranks by tokens, score, weigh, add up.

Every rank reads the same rows and computes its own share. Legend: _M kept response tokens of a micro-batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch

from ring_model.engine import Engine
from ring_model.modelling import BailingMoe
from ring_model.policy import PackedRows, response_logprobs
from stages.config import RlConfig
from stages.rl.losses import TokenBatch, step_loss
from stages.training.dealing import rectangles, share_of_rank
from stages.training.routing import Load, no_routing, weighed_routing


@dataclass(frozen=True, slots=True)
class Chosen:
    """A response that enters the loss, as far as it does."""

    prompt: Sequence[int]
    token_ids: Sequence[int]
    logprobs: Sequence[float]  # of the policy that made it
    advantage: float
    weight: float  # of each token

    @property
    def num_tokens(self) -> int:
        """Of prompt and response."""
        return len(self.prompt) + len(self.token_ids)


def chosen_of(rows: pa.Table) -> list[Chosen]:
    """The responses with kept tokens, in the order of the journal."""
    rows = rows.filter(rows["kept_tokens"].to_numpy() > 0)
    names = ("prompt_ids", "token_ids", "logprobs", "advantage", "weight", "kept_tokens")
    columns = (rows[name].to_pylist() for name in names)
    return [
        Chosen(prompt, tokens[:kept], logprobs[:kept], advantage, weight)
        for prompt, tokens, logprobs, advantage, weight, kept in zip(*columns, strict=True)
    ]


def accumulate_gradients(
    chosen: Sequence[Chosen],
    *,
    engine: Engine,
    reference: BailingMoe | None,
    config: RlConfig,
    load: Load,
    micro_batch_tokens: int,
) -> dict[str, float]:
    """Eq. 6 over the chosen responses, of which this rank takes its share; returns sums over all ranks.

    `load`: the experts' loads in the step before. `reference` may be left out where beta is 0. The sums: `loss` (of the whole step),
    `kl`, `clipped` and `tokens` over tokens, and what `routing` makes of routers.
    """
    total = sum(one.num_tokens for one in chosen)
    dealt = share_of_rank([one.num_tokens for one in chosen], rank=engine.rank, num_ranks=engine.world_size)
    mine = [chosen[index] for index in dealt]
    texts = [(one.prompt, one.token_ids) for one in mine]
    packed = rectangles(texts, micro_batch_tokens=micro_batch_tokens, device=engine.device)
    load_LE = torch.tensor(load, device=engine.device)
    sums = {"loss": 0.0, "kl": 0.0, "clipped": 0.0, "tokens": 0.0, **no_routing(engine.model.config)}
    for batch in engine.padded(packed):
        if batch is None:
            engine.backward_nothing()
            continue
        indices, rows = batch
        part = _micro_batch(
            [mine[index] for index in indices], rows, engine=engine, reference=reference, config=config,
            load_LE=load_LE, router_share=int(rows.lengths_B.sum()) / total,
        )  # fmt: skip
        add(sums, part)
    return engine.all_reduce_sum(sums)


def _micro_batch(
    chosen: Sequence[Chosen],
    rows: PackedRows,
    *,
    engine: Engine,
    reference: BailingMoe | None,
    config: RlConfig,
    load_LE: torch.Tensor,
    router_share: float,
) -> dict[str, float]:
    temperature = config.sampling.temperature
    wants_entropy = "gradient" if config.entropy_coefficient else "none"
    scored = response_logprobs(engine.model, rows, entropy=wants_entropy, temperature=temperature)
    output = step_loss(
        scored.logprobs_M,
        scored.entropies_M,
        scored.router,
        _token_batch(chosen, _reference_logprobs(reference, rows, temperature=temperature), device=engine.device),
        config=config,
        load_LE=load_LE,
        router_share=router_share,
    )
    engine.backward(output.loss, denominator=1.0)
    figures = {"loss": float(output.loss.detach()), "kl": output.kl_sum, "clipped": output.num_clipped}
    return figures | {"tokens": float(rows.num_response_tokens)} | weighed_routing(scored.router, router_share)


@torch.no_grad()
def _reference_logprobs(reference: BailingMoe | None, rows: PackedRows, *, temperature: float) -> torch.Tensor | None:
    if reference is None:
        return None
    return response_logprobs(reference, rows, entropy="none", temperature=temperature).logprobs_M


def _token_batch(chosen: Sequence[Chosen], reference_M: torch.Tensor | None, *, device: torch.device) -> TokenBatch:
    lengths = torch.tensor([len(one.token_ids) for one in chosen])

    def spread(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32).repeat_interleave(lengths).to(device)

    old = torch.tensor([logprob for one in chosen for logprob in one.logprobs], dtype=torch.float32)
    return TokenBatch(
        old_logprobs_M=old.to(device),
        reference_logprobs_M=reference_M,
        advantages_M=spread([one.advantage for one in chosen]),
        weights_M=spread([one.weight for one in chosen]),
    )


def add(sums: dict[str, float], values: Mapping[str, float]) -> None:
    """Add values to sums of the same names; a name that is new begins at 0."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value
