"""The gradient of an update from its rows in the journal: deal them to ranks by tokens, score, weigh, add up.

Every rank reads the same rows and computes its own share. Legend: _M kept response tokens of a micro-batch.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch

from ring_model.engine import Engine
from ring_model.head import Entropy
from ring_model.policy import PackedRows
from stages.config import RlConfig
from stages.rl.losses import TokenBatch, update_loss
from stages.rl.mismatch import Differences
from stages.rl.ratios import unit_of_tokens
from stages.training.dealing import rectangles, share_of_rank
from stages.training.routing import Load, no_routing, no_selections, selections_by_domain, weighed_routing


@dataclass(frozen=True, slots=True)
class Chosen:
    """A response that enters the loss, as far as it does."""

    domain: str
    prompt: Sequence[int]
    token_ids: Sequence[int]
    logprobs: Sequence[float]  # of the sampler
    reference_logprobs: Sequence[float]  # empty where no reference was asked
    advantage: float
    weight: float  # of each token

    @property
    def num_tokens(self) -> int:
        """Of prompt and response."""
        return len(self.prompt) + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over an update and all ranks."""

    sums: dict[
        str, float
    ]  # `loss` (of the whole update), `kl`, `clipped`, `tokens`, and what `routing` makes of routers
    differences: Differences


def chosen_of(rows: pa.Table, *, update: int) -> list[Chosen]:
    """The responses that an update of the step takes, in the order of the journal."""
    rows = rows.filter(rows["update"].to_numpy() == update)
    names = (
        "domain",
        "prompt_ids",
        "token_ids",
        "logprobs",
        "reference_logprobs",
        "advantage",
        "weight",
        "kept_tokens",
    )
    columns = (rows[name].to_pylist() for name in names)
    return [
        Chosen(domain, prompt, tokens[:kept], logprobs[:kept], reference[:kept], advantage, weight)
        for domain, prompt, tokens, logprobs, reference, advantage, weight, kept in zip(*columns, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Update:
    """One update's responses on their way through this rank's model, and what is known of them beforehand."""

    chosen: Sequence[Chosen]
    config: RlConfig
    engine: Engine
    sentence_ends: Collection[int]  # ids of tokens
    micro_batch_tokens: int

    @property
    def domains(self) -> list[str]:
        """Of the responses, each once."""
        return sorted({one.domain for one in self.chosen})

    @property
    def entropy(self) -> Entropy:
        """Which entropies the loss takes."""
        return "gradient" if self.config.objective.entropy_coefficient else "none"

    def mine(self) -> list[Chosen]:
        """This rank's share."""
        dealt = share_of_rank(
            [one.num_tokens for one in self.chosen], rank=self.engine.rank, num_ranks=self.engine.world_size
        )
        return [self.chosen[index] for index in dealt]

    def micro_batches(self) -> Iterator[tuple[list[Chosen], PackedRows] | None]:
        """This rank's share in rectangles; None where another rank has more."""
        mine = self.mine()
        texts = [(one.prompt, one.token_ids) for one in mine]
        packed = rectangles(texts, micro_batch_tokens=self.micro_batch_tokens, device=self.engine.device)
        for batch in self.engine.padded(packed):
            yield batch if batch is None else ([mine[index] for index in batch[0]], batch[1])

    @torch.no_grad()
    def old_logprobs(self) -> list[torch.Tensor]:
        """The logarithm of pi_old of this rank's tokens, by micro-batch: of the policy before other updates of the step move it."""
        found = []
        for batch in self.micro_batches():
            if batch is None:
                self.engine.score_nothing()
                continue
            scored = self.engine.score(batch[1], entropy="none", temperature=self.config.sampling.temperature)
            found.append(scored.logprobs_M)
        return found


def accumulate_gradients(update: Update, *, load: Load, old: Sequence[torch.Tensor] | None = None) -> Totals:
    """Eq. 6 over an update's responses, of which this rank takes its share.

    `load`: the experts' loads in the update before. `old`: what `old_logprobs` gave before the step's first update; None in that one.
    """
    engine, total = update.engine, sum(one.num_tokens for one in update.chosen)
    load_LE = torch.tensor(load, device=engine.device)
    routers = engine.shape.routers
    sums = {"loss": 0.0, "kl": 0.0, "clipped": 0.0, "tokens": 0.0, **no_routing(routers)}
    sums |= no_selections(update.domains, routers)
    differences, scored_before = Differences.none(), iter(old or ())
    for batch in update.micro_batches():
        if batch is None:
            engine.backward_nothing(entropy=update.entropy)
            continue
        share = int(batch[1].lengths_B.sum()) / total
        part, found = _micro_batch(update, *batch, old_M=next(scored_before, None), load_LE=load_LE, router_share=share)
        add(sums, part)
        differences.merge(found)
    everybody = Differences.none()
    for found in engine.all_gather_object(differences):
        everybody.merge(found)
    return Totals(engine.all_reduce_sum(sums), everybody)


def _micro_batch(
    update: Update,
    chosen: Sequence[Chosen],
    rows: PackedRows,
    *,
    old_M: torch.Tensor | None,
    load_LE: torch.Tensor,
    router_share: float,
) -> tuple[dict[str, float], Differences]:
    objective = update.config.objective
    scored = update.engine.score(rows, entropy=update.entropy, temperature=update.config.sampling.temperature)
    output = update_loss(
        scored.logprobs_M,
        scored.entropies_M,
        scored.router,
        token_batch(chosen, rows, update, old_M=old_M),
        objective=objective,
        load_LE=load_LE,
        router_share=router_share,
    )
    update.engine.backward(output.loss, denominator=1.0)
    figures = {"loss": float(output.loss.detach()), "kl": output.kl_sum, "clipped": output.num_clipped}
    figures |= {"tokens": float(rows.num_response_tokens)} | weighed_routing(scored.router, router_share)
    domains = [one.domain for one in chosen]
    figures |= selections_by_domain(scored.router, scored.layout, domains, update.engine.shape.routers)
    return figures, output.differences


def token_batch(
    chosen: Sequence[Chosen], rows: PackedRows, update: Update, *, old_M: torch.Tensor | None
) -> TokenBatch:
    """What is known of the tokens of a micro-batch before its forward pass."""
    device, objective = update.engine.device, update.config.objective
    responses = [one.token_ids for one in chosen]
    response_M = rows.response_rows()

    def spread(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[response_M]

    def joined(values: Sequence[Sequence[float]]) -> torch.Tensor:
        return torch.tensor([value for some in values for value in some], dtype=torch.float32).to(device)

    wants_reference = bool(objective.kl_coefficient) and objective.kl_place == "loss"
    return TokenBatch(
        sampler_logprobs_M=joined([one.logprobs for one in chosen]),
        old_logprobs_M=old_M,
        reference_logprobs_M=joined([one.reference_logprobs for one in chosen]) if wants_reference else None,
        advantages_M=spread([one.advantage for one in chosen]),
        weights_M=spread([one.weight for one in chosen]),
        unit_M=torch.tensor(unit_of_tokens(responses, objective=objective, ends=update.sentence_ends), device=device),
        response_M=response_M,
    )


def add(sums: dict[str, float], values: Mapping[str, float]) -> None:
    """Add values to sums of the same names; a name that is new begins at 0."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value
