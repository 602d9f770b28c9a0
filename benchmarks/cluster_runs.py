"""The runs of the cluster on paper: every method as assumed, C3PO++ with expiry, lengths that grow, assumptions changed one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.cluster_costs import Cluster, Lengths
from benchmarks.cluster_methods import NEVER, Method, Step, World, pooled, synchronous
from stages.config import Objective

SLOTS = (16, 32, 48, 64)
COMPARED_SLOTS = (32, 64)  # as many as a rank has responses in a synchronous step, and twice that
EXPIRIES = ((32, 1), (64, 1), (64, 2))
GROWTH = 0.01
SENSITIVITY_STEPS = 9
FILLING_STEPS = 4  # in which an empty pool fills; left out where steps are compared with each other
SLOWEST_TRAINING = "training 16 x slower"
REFERENCE = "GRPO, dealt"  # what others are compared with: it trains as C3PO++ does, and samples as GRPO does
RANKED = "C3PO per rank, dealt"
Runs = dict[str, list[Step]]


@dataclass(frozen=True, slots=True)
class Results:
    """Steps by method, and by what was assumed."""

    world: World
    base: Runs
    expiry: Runs
    drift: Runs
    sensitivity: Mapping[str, Runs]


def methods(cluster: Cluster) -> dict[str, Method]:
    """The synchronous methods, by name."""
    ranked = Objective(token_budget=cluster.token_budget, budget_ranks=cluster.num_ranks)
    whole, grpo = global_budget(cluster), Objective(kind="grpo")
    listed = (
        Method("GRPO, where sampled", grpo, dealt=False),
        Method(REFERENCE, grpo),
        Method("C3PO per rank, where sampled", ranked, dealt=False),
        Method(RANKED, ranked),
        Method("C3PO per rank, extra prompts", ranked, extra=True),
        Method("C3PO global, where sampled", whole, dealt=False),
        Method("C3PO global, dealt", whole),
        Method("C3PO global, extra prompts", whole, extra=True),
        Method("C3PO, Phi once for all ranks", Objective(budget_scope="global", token_budget=cluster.token_budget)),
    )
    return {method.name: method for method in listed}


def global_budget(cluster: Cluster) -> Objective:
    """Phi of all ranks as one budget."""
    return Objective(budget_scope="global", token_budget=cluster.total_budget)


def pool_method(cluster: Cluster, *, slots: int, expiry: int = NEVER, whole_groups: bool = False) -> Method:
    """C3PO++ with a pool of so many slots a rank."""
    name = f"C3PO++, {slots} slots" + (f", sigma {expiry}" if expiry != NEVER else "")
    name += ", whole groups" if whole_groups else ""
    return Method(name, global_budget(cluster), slots=slots, expiry=expiry, whole_groups=whole_groups)


def simulate(world: World, *, num_steps: int) -> Results:
    """Every run of the page."""
    cluster = world.cluster
    listed = list(methods(cluster).values())
    base = dict(zip(methods(cluster), synchronous(world, listed, num_steps=num_steps), strict=True))
    base |= _oversampled(world, num_steps=num_steps)
    pools = [pool_method(cluster, slots=slots) for slots in SLOTS]
    pools.append(pool_method(cluster, slots=COMPARED_SLOTS[0], whole_groups=True))
    base |= _pools(world, pools, num_steps=num_steps)
    expiring = [pool_method(cluster, slots=slots, expiry=expiry) for slots, expiry in EXPIRIES]
    drifting = replace(world, lengths=replace(world.lengths, growth=GROWTH))
    return Results(
        world=world,
        base=base,
        expiry=_pools(world, expiring, num_steps=max(num_steps // 2, FILLING_STEPS + 1)),
        drift=_compared(drifting, slots=COMPARED_SLOTS[:1], num_steps=num_steps),
        sensitivity={
            name: _settled(_compared(other, slots=COMPARED_SLOTS, num_steps=SENSITIVITY_STEPS))
            for name, other in scenarios(world)
        },
    )


def oversampled_prompts(cluster: Cluster) -> int:
    """Half as many prompts again as a step asks."""
    return cluster.prompts_per_step * 3 // 2


def _oversampled(world: World, *, num_steps: int) -> Runs:
    """C3PO per rank from more prompts, asked all at once."""
    number = oversampled_prompts(world.cluster)
    more = replace(world, cluster=replace(world.cluster, prompts_per_step=number))
    [steps] = synchronous(more, [methods(world.cluster)[RANKED]], num_steps=num_steps)
    return {f"C3PO per rank, {number} prompts": steps}


def _pools(world: World, listed: Sequence[Method], *, num_steps: int) -> Runs:
    return {method.name: pooled(world, method, num_steps=num_steps) for method in listed}


def _compared(world: World, *, slots: Sequence[int], num_steps: int) -> Runs:
    """GRPO, C3PO per rank and C3PO++."""
    known = methods(world.cluster)
    listed = [known[name] for name in (REFERENCE, RANKED)]
    runs = dict(zip((method.name for method in listed), synchronous(world, listed, num_steps=num_steps), strict=True))
    return runs | _pools(world, [pool_method(world.cluster, slots=size) for size in slots], num_steps=num_steps)


def _settled(runs: Runs) -> Runs:
    return {name: steps[FILLING_STEPS:] for name, steps in runs.items()}


def scenarios(world: World) -> Iterator[tuple[str, World]]:
    """Assumptions changed one at a time."""
    cluster, lengths = world.cluster, world.lengths

    def of(*, cluster: Cluster = cluster, lengths: Lengths = lengths) -> World:
        return replace(world, cluster=cluster, lengths=lengths)

    yield "as assumed", world
    yield "tail lighter: spread 0.3", of(lengths=replace(lengths, spread=0.3))
    yield "tail heavier: spread 1.0", of(lengths=replace(lengths, spread=1.0))
    yield "limit 65 536, spread 1.0", of(lengths=replace(lengths, spread=1.0, limit=65_536))
    yield "lengths of a prompt independent", of(lengths=replace(lengths, between=0.0))
    yield "lengths of a prompt alike: 0.8", of(lengths=replace(lengths, between=0.8))
    slower = replace(
        cluster, decode_seconds=2 * cluster.decode_seconds, bandwidth_share=cluster.bandwidth_share / 2,
        prefill_share=cluster.prefill_share / 2,
    )  # fmt: skip
    yield "decoding 2 x slower", of(cluster=slower)
    yield "all experts read every step", of(cluster=replace(cluster, reads_all_experts=True))
    yield "training 2 x slower", of(cluster=replace(cluster, training_share=cluster.training_share / 2))
    yield SLOWEST_TRAINING, of(cluster=replace(cluster, training_share=cluster.training_share / 16))
