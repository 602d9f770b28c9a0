"""A step of each method on the cluster on paper: what is sampled, what of it is trained, where, and what that takes.

Which tokens are trained is what `stages.rl.selection` says, and "dealt" is by tokens, as `stages.training.dealing` does it. Every prompt
is taken to have right and wrong answers, so that every response carries a gradient.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.cluster_costs import Cluster, Lengths
from benchmarks.cluster_rollout import Decoder, Phase, Row, sample_all, sample_until
from stages.config import Objective
from stages.rl.selection import NOTHING, Response, choose_shares, lacking_groups
from stages.seeds import derive_seed
from stages.training.dealing import share_of_rank

NEVER = 10**9  # an expiry that is not reached


@dataclass(frozen=True, slots=True)
class World:
    """What all methods meet."""

    cluster: Cluster = field(default_factory=Cluster)
    lengths: Lengths = field(default_factory=Lengths)
    seed: int = 0

    def rows(self, group: int, *, rank: int, step: int) -> list[Row]:
        """The responses to a prompt that a rank is asked in a step (from 0)."""
        number = self.cluster.samples_per_prompt
        lengths = self.lengths.of_group(group, step=step, num_samples=number, seed=self.seed)
        return [Row(group, sample, rank, length) for sample, length in enumerate(lengths)]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to spend a step. With `slots` it is C3PO++: that many slots a rank, refilled, and responses outlive updates."""

    name: str
    objective: Objective
    dealt: bool = True  # chosen responses go to ranks by tokens; else each is trained where it was sampled
    extra: bool = False  # more prompts while a Phi lacks tokens
    slots: int = 0
    expiry: int = NEVER  # sigma: updates that a response may survive unfinished
    whole_groups: bool = False  # a response is trained only when all of its prompt's are finished or dropped


@dataclass(frozen=True, slots=True)
class Step:
    """What a step took, in seconds of the whole cluster's clock, and what it trained."""

    rollout: float  # of a rank, mean
    rollout_idle: float  # waiting for the slowest rank, mean
    training: float
    training_idle: float
    overhead: float
    num_trained: int  # tokens
    num_sampled: int
    num_lost: int  # sampled, and never trained
    filled_share: float  # of decode slots x time of sampling
    age_sum: float = 0.0  # updates between sampling and training, summed over trained tokens
    max_age: int = 0
    mean_length: float = 0.0  # of trained responses
    num_waves: int = 1  # of sampling
    peak_context: int = 0  # most tokens whose keys and values a rank held
    crowded_share: float = 0.0  # of ranks, those where they did not fit at some time

    @property
    def rollout_phase(self) -> float:
        """Seconds until the slowest rank has sampled."""
        return self.rollout + self.rollout_idle

    @property
    def training_phase(self) -> float:
        """Seconds until the slowest rank has trained."""
        return self.training + self.training_idle

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.rollout_phase + self.training_phase + self.overhead

    @property
    def idle_share(self) -> float:
        """Of the GPUs' time: waiting for the slowest rank."""
        return (self.rollout_idle + self.training_idle) / self.seconds


# ---------------------------------------------------------------- training


@dataclass(frozen=True, slots=True)
class Trained:
    """What of the responses of a step is trained, and how long ranks take."""

    kept: Mapping[tuple[int, int], int]  # tokens by (group, sample)
    mean_seconds: float
    seconds: float  # of the slowest rank


def responses_of(rows: Sequence[Row], objective: Objective, *, num_ranks: int) -> list[Response]:
    """Rows as the choice of tokens knows them; a virtual rank is a rank."""
    by_rank = objective.num_budgets == num_ranks
    return [
        Response(row.group, row.sample, row.length, advantage=1.0, judged=True, budget_rank=row.rank if by_rank else 0)
        for row in rows
    ]


def _choice_seed(world: World, step: int) -> int:
    return derive_seed(world.seed, "cluster", "choice", step)


def train(rows: Sequence[Row], method: Method, *, world: World, step: int) -> Trained:
    """Choose tokens as the project does, and train them where they were sampled or where they are dealt to."""
    cluster, seed = world.cluster, _choice_seed(world, step)
    responses = responses_of(rows, method.objective, num_ranks=cluster.num_ranks)
    shares = choose_shares(responses, objective=method.objective, longest=world.lengths.limit, seed=seed)
    kept = {response.key: shares.get(response.key, NOTHING).kept_tokens for response in responses}
    chosen = [(row.rank, kept[row.group, row.sample]) for row in rows if kept[row.group, row.sample]]
    tokens = dealt(chosen, num_ranks=cluster.num_ranks) if method.dealt else where_sampled(chosen, cluster.num_ranks)
    seconds = cluster.training_seconds
    return Trained(kept, mean_seconds=seconds * sum(tokens) / len(tokens), seconds=seconds * max(tokens))


def where_sampled(chosen: Sequence[tuple[int, int]], num_ranks: int) -> list[int]:
    """Tokens by rank of (rank, tokens) pairs."""
    tokens = [0] * num_ranks
    for rank, number in chosen:
        tokens[rank] += number
    return tokens


def dealt(chosen: Sequence[tuple[int, int]], *, num_ranks: int) -> list[int]:
    """Tokens by rank after `share_of_rank`: one rank's share is the order of all, from which every rank takes its turns."""
    lengths = [number for _, number in chosen]
    order = share_of_rank(lengths, rank=0, num_ranks=1)
    return [sum(lengths[index] for index in order[rank::num_ranks]) for rank in range(num_ranks)]


# ---------------------------------------------------------------- steps of methods without unfinished responses


def synchronous(world: World, methods: Sequence[Method], *, num_steps: int) -> list[list[Step]]:
    """By method its steps; all methods train from the same responses, and those with `extra` ask more."""
    by_step = [_synchronous_step(world, methods, step=step) for step in range(num_steps)]
    return [list(steps) for steps in zip(*by_step, strict=True)]


def _synchronous_step(world: World, methods: Sequence[Method], *, step: int) -> list[Step]:
    cluster = world.cluster
    first = step * 2 * cluster.prompts_per_step  # as many numbers are left for extra prompts
    ranks = [number % cluster.num_ranks for number in range(cluster.prompts_per_step)]
    decoders = [Decoder(cluster, cluster.responses_per_rank) for _ in range(cluster.num_ranks)]
    wave = _wave(world, decoders, ranks, first=first, step=step)
    records = []
    for method in methods:
        waves = [wave]
        if method.extra:
            waves += _extra_waves(world, method.objective, wave.rows, first=first + len(ranks), step=step)
        records.append(_record(waves, method, world=world, step=step))
    return records


def _wave(world: World, decoders: Sequence[Decoder], ranks: Sequence[int], *, first: int, step: int) -> Phase:
    """Ask prompts of ranks, one for each entry, and sample to the end."""
    for decoder in decoders:
        decoder.begin()
    for number, rank in enumerate(ranks):
        decoders[rank].add_group(world.rows(first + number, rank=rank, step=step))
    return sample_all(decoders)


def _extra_waves(world: World, objective: Objective, rows: Sequence[Row], *, first: int, step: int) -> Iterator[Phase]:
    """Token-budgeted dynamic sampling as `stages.rl.collect` does it: wave after wave, at most as many prompts as the step has."""
    cluster, asked, so_far = world.cluster, 0, list(rows)
    decoders = [Decoder(cluster, cluster.responses_per_rank) for _ in range(cluster.num_ranks)]
    by_rank, seed = objective.num_budgets == cluster.num_ranks, _choice_seed(world, step)
    while True:
        responses = responses_of(so_far, objective, num_ranks=cluster.num_ranks)
        prompts = cluster.prompts_per_step
        ranks = lacking_groups(responses, objective, wanted=prompts, most=prompts - asked, seed=seed)
        if not ranks:
            return
        places = ranks if by_rank else [number % cluster.num_ranks for number in range(len(ranks))]
        wave = _wave(world, decoders, places, first=first + asked, step=step)
        asked += len(ranks)
        so_far += wave.rows
        yield wave


def _record(waves: Sequence[Phase], method: Method, *, world: World, step: int) -> Step:
    rows = [row for wave in waves for row in wave.rows]
    trained = train(rows, method, world=world, step=step)
    num_trained, num_sampled = sum(trained.kept.values()), sum(wave.num_sampled for wave in waves)
    seconds, busy = sum(wave.seconds for wave in waves), sum(wave.busy_seconds for wave in waves)
    return Step(
        rollout=busy,
        rollout_idle=seconds - busy,
        training=trained.mean_seconds,
        training_idle=trained.seconds - trained.mean_seconds,
        overhead=world.cluster.overhead_seconds,
        num_trained=num_trained,
        num_sampled=num_sampled,
        num_lost=num_sampled - num_trained,
        filled_share=sum(wave.filled_share * wave.seconds for wave in waves) / seconds,
        mean_length=mean_trained_length(rows, trained.kept),
        num_waves=len(waves),
        peak_context=max(wave.peak_context for wave in waves),
        crowded_share=max(wave.crowded_share for wave in waves),
    )


def mean_trained_length(rows: Sequence[Row], kept: Mapping[tuple[int, int], int]) -> float:
    """Mean length of responses of which something is trained."""
    lengths = [row.length for row in rows if kept[row.group, row.sample]]
    return sum(lengths) / len(lengths)


# ---------------------------------------------------------------- C3PO++


@dataclass(slots=True)
class Prompts:
    """Prompts without end, given to whichever rank asks."""

    world: World
    step: int = 0
    num_asked: int = 0

    def __call__(self, decoder: Decoder, rank: int) -> None:
        """Put the next prompt's responses in line at a rank."""
        decoder.add_group(self.world.rows(self.num_asked, rank=rank, step=self.step))
        self.num_asked += 1


@dataclass(slots=True)
class Groups:
    """Finished responses that wait for the others of their prompt."""

    num_samples: int
    held: dict[int, list[Row]] = field(default_factory=dict)
    num_gone: Counter[int] = field(default_factory=Counter)  # by group, dropped

    def add(self, row: Row) -> list[Row]:
        """A response has finished: returns those of its prompt if none is missing any more."""
        self.held.setdefault(row.group, []).append(row)
        return self._whole(row.group)

    def drop(self, row: Row) -> list[Row]:
        """A response will not finish: returns the others as `add` does."""
        self.num_gone[row.group] += 1
        return self._whole(row.group)

    def _whole(self, group: int) -> list[Row]:
        rows = self.held.get(group, [])
        return self.held.pop(group, []) if len(rows) + self.num_gone[group] == self.num_samples else []


@dataclass(slots=True)
class Pool:
    """C3PO++ (2510.18855, algorithm 1): slots that are always full, and an update whenever finished tokens reach Phi of all ranks.

    A response that is not finished goes on under the new weights, which read what it has again; one that has survived more than
    `expiry` updates is dropped.
    """

    world: World
    method: Method
    step: int = 0  # the update to come, and the version that samples for it
    decoders: list[Decoder] = field(init=False)
    prompts: Prompts = field(init=False)
    groups: Groups = field(init=False)
    left: list[Row] = field(default_factory=list)  # that wait for the next update

    def __post_init__(self) -> None:
        cluster = self.world.cluster
        self.decoders = [Decoder(cluster, self.method.slots) for _ in range(cluster.num_ranks)]
        self.prompts, self.groups = Prompts(self.world), Groups(cluster.samples_per_prompt)

    def advance(self) -> Step:
        """Sample until Phi is finished, train, and drop what is too old."""
        cluster, self.prompts.step = self.world.cluster, self.step
        for decoder in self.decoders:
            decoder.begin()
        phase = sample_until(
            self.decoders, num_tokens=cluster.total_budget, more=self.prompts, ready=self._ready, rows=self.left
        )
        for decoder in self.decoders:
            for end, _, row in decoder.running:
                row.count(decoder.position(end, row), version=self.step)
        record = self._record(phase, train(phase.rows, self.method, world=self.world, step=self.step))
        self.step += 1
        return replace(record, num_lost=record.num_lost + self._expire())

    def _ready(self, row: Row) -> list[Row]:
        row.count(row.length, version=self.step)
        return self.groups.add(row) if self.method.whole_groups else [row]

    def _expire(self) -> int:
        """Drop the responses that an update was one too many for; returns their tokens."""
        num_tokens, self.left = 0, []
        for decoder in self.decoders:
            for _, _, row in decoder.running:
                row.survived += 1
            gone = decoder.drop(lambda row: row.survived > self.method.expiry)
            num_tokens += sum(row.counted for row in gone)
            if self.method.whole_groups:
                self.left += [other for row in gone for other in self.groups.drop(row)]
        return num_tokens

    def _record(self, phase: Phase, trained: Trained) -> Step:
        rows = [row for row in phase.rows if trained.kept[row.group, row.sample]]
        num_trained = sum(trained.kept.values())
        ages = [trained.kept[row.group, row.sample] * (self.step - row.version_sum / row.length) for row in rows]
        return Step(
            rollout=phase.busy_seconds,
            rollout_idle=phase.seconds - phase.busy_seconds,
            training=trained.mean_seconds,
            training_idle=trained.seconds - trained.mean_seconds,
            overhead=self.world.cluster.overhead_seconds,
            num_trained=num_trained,
            num_sampled=phase.num_sampled,
            num_lost=sum(row.length for row in phase.rows) - num_trained,
            filled_share=phase.filled_share,
            age_sum=sum(ages),
            max_age=max(self.step - row.first_version for row in rows),
            mean_length=mean_trained_length(rows, trained.kept),
            peak_context=phase.peak_context,
            crowded_share=phase.crowded_share,
        )


def pooled(world: World, method: Method, *, num_steps: int) -> list[Step]:
    """The first steps of C3PO++, from an empty pool."""
    pool = Pool(world, method)
    return [pool.advance() for _ in range(num_steps)]
