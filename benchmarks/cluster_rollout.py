"""Sampling on the cluster on paper: ranks that decode in slots, until all is finished or until enough tokens are.

A rank's rows gain one token a decode step, all at once; between two ends of responses the steps cost an arithmetic series, so that time
goes from end to end and no step is simulated by itself.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.cluster_costs import Cluster

ROUNDING = 1e-6  # of a decode step: one that misses a second by no more ends at it


@dataclass(slots=True)
class Row:
    """A response; `length` is known to nobody before its last token."""

    group: int
    sample: int
    rank: int
    length: int
    counted: int = 0  # of its tokens, those whose version is in `version_sum`
    version_sum: int = 0  # of the policy versions that its tokens were sampled with
    first_version: int = -1  # -1: not begun
    survived: int = 0  # updates

    def count(self, position: int, *, version: int) -> None:
        """Tokens up to a position were sampled with a version, as far as they are not counted."""
        if self.first_version < 0:
            self.first_version = version
        self.version_sum += (position - self.counted) * version
        self.counted = position


@dataclass(slots=True)
class Decoder:
    """The engine of a rank: at most `num_slots` rows at once, others wait."""

    cluster: Cluster
    num_slots: int
    waiting: deque[Row] = field(default_factory=deque)
    running: list[tuple[int, int, Row]] = field(
        default_factory=list
    )  # heap: the step at whose end it ends, number, row
    num_started: int = 0
    num_steps: int = 0  # decode steps so far
    context: int = 0  # tokens that running rows hold
    peak_context: int = 0  # of this phase
    num_sampled: int = 0  # tokens of this phase
    seconds: float = 0.0  # since the phase began, while it had something to do
    slot_seconds: float = 0.0  # filled slots, summed over that time
    row_seconds: list[float] = field(init=False)  # of a decode step, by number of rows
    context_seconds: float = field(init=False)  # of a decode step, for each token that rows hold

    def __post_init__(self) -> None:
        self.context_seconds = self.cluster.context_seconds
        self.row_seconds = [self.cluster.row_seconds(rows) for rows in range(self.num_slots + 1)]

    def begin(self) -> None:
        """Begin a phase: the clock is 0, and what unfinished rows hold is read again, by new weights."""
        self.seconds = self.context * self.cluster.prefill_seconds
        self.slot_seconds = len(self.running) * self.seconds
        self.peak_context, self.num_sampled = self.context, 0

    def add_group(self, rows: Iterable[Row]) -> None:
        """Put the responses to a prompt in line; the prompt is prefilled once."""
        self.waiting.extend(rows)
        self.seconds += self.cluster.prompt_tokens * self.cluster.prefill_seconds

    def fill(self) -> None:
        """Start waiting rows where slots are free."""
        while self.waiting and len(self.running) < self.num_slots:
            row = self.waiting.popleft()
            heapq.heappush(self.running, (self.num_steps + row.length, self.num_started, row))
            self.num_started += 1

    def next_end(self) -> float:
        """The second at which the next response ends; infinite where none runs."""
        return self.seconds + self._seconds_of(self.running[0][0] - self.num_steps) if self.running else math.inf

    def end_next(self) -> Row:
        """Decode up to the next end, and take that row out."""
        self._decode(self.running[0][0] - self.num_steps)
        row = heapq.heappop(self.running)[2]
        self.context -= row.length
        return row

    def decode_until(self, second: float) -> None:
        """As many whole steps as end by a second at which no response has ended."""
        if self.running:
            self._decode(self._steps_within(second - self.seconds))

    def position(self, end: int, row: Row) -> int:
        """Tokens that a running row has."""
        return row.length - (end - self.num_steps)

    def drop(self, is_dropped: Callable[[Row], bool]) -> list[Row]:
        """Take running rows out unfinished."""
        gone = [(end, row) for end, _, row in self.running if is_dropped(row)]
        self.context -= sum(self.position(end, row) for end, row in gone)
        self.running = [entry for entry in self.running if not is_dropped(entry[2])]
        heapq.heapify(self.running)
        return [row for _, row in gone]

    def _seconds_of(self, steps: int) -> float:
        rows = len(self.running)
        held = steps * self.context + rows * steps * (steps - 1) / 2
        return steps * self.row_seconds[rows] + held * self.context_seconds

    def _steps_within(self, seconds: float) -> int:
        rows = len(self.running)
        square = rows * self.context_seconds / 2
        linear = self.row_seconds[rows] + self.context * self.context_seconds - square
        # square x n^2 + linear x n = seconds, solved in the form that holds for square = 0, too
        exact = 2 * seconds / (linear + math.sqrt(linear**2 + 4 * square * max(0.0, seconds)))
        return max(0, min(int(exact + ROUNDING), self.running[0][0] - self.num_steps - 1))

    def _decode(self, steps: int) -> None:
        rows, seconds = len(self.running), self._seconds_of(steps)
        self.seconds += seconds
        self.slot_seconds += rows * seconds
        self.num_steps += steps
        self.num_sampled += rows * steps
        self.context += rows * steps
        self.peak_context = max(self.peak_context, self.context)


@dataclass(frozen=True, slots=True)
class Phase:
    """What a phase of sampling took and gave."""

    seconds: float  # until the last rank
    busy_seconds: float  # of a rank, mean
    filled_share: float  # of slots x seconds
    num_sampled: int  # tokens
    peak_context: int  # most tokens that a rank held
    crowded_share: float  # of ranks that held more than fits at some time
    rows: list[Row]  # that may be trained


def sample_all(decoders: Sequence[Decoder]) -> Phase:
    """Every rank samples whatever waits there to its end; the phase ends with the slowest."""
    rows = []
    for decoder in decoders:
        decoder.fill()
        while decoder.running:
            rows.append(decoder.end_next())
            decoder.fill()
    return _phase(decoders, rows)


def sample_until(
    decoders: Sequence[Decoder],
    *,
    num_tokens: int,
    more: Callable[[Decoder, int], None],
    ready: Callable[[Row], list[Row]],
    rows: Sequence[Row] = (),
) -> Phase:
    """Every rank keeps its slots filled until rows that may be trained have these tokens; the rest stays where it is.

    `more(decoder, rank)` puts another prompt in line; `ready(row)` is told of a row that ended, and returns those that may be trained
    from then on. `rows` may be from the beginning.
    """
    found = list(rows)
    num_found, second = sum(row.length for row in rows), 0.0
    for rank, decoder in enumerate(decoders):
        _refill(decoder, rank, more)
    ends = [(decoder.next_end(), rank) for rank, decoder in enumerate(decoders)]
    heapq.heapify(ends)
    while num_found < num_tokens:
        second, rank = ends[0]
        new = ready(decoders[rank].end_next())
        found += new
        num_found += sum(row.length for row in new)
        if num_found < num_tokens:
            _refill(decoders[rank], rank, more)
            heapq.heapreplace(ends, (decoders[rank].next_end(), rank))
    for decoder in decoders:
        decoder.decode_until(second)
    return _phase(decoders, found)


def _refill(decoder: Decoder, rank: int, more: Callable[[Decoder, int], None]) -> None:
    while len(decoder.waiting) + len(decoder.running) < decoder.num_slots:
        more(decoder, rank)
    decoder.fill()


def _phase(decoders: Sequence[Decoder], rows: list[Row]) -> Phase:
    seconds, num_ranks = max(decoder.seconds for decoder in decoders), len(decoders)
    slots = sum(decoder.num_slots for decoder in decoders)
    capacity = decoders[0].cluster.context_capacity
    return Phase(
        seconds=seconds,
        busy_seconds=sum(decoder.seconds for decoder in decoders) / num_ranks,
        filled_share=sum(decoder.slot_seconds for decoder in decoders) / (slots * seconds),
        num_sampled=sum(decoder.num_sampled for decoder in decoders),
        peak_context=max(decoder.peak_context for decoder in decoders),
        crowded_share=sum(decoder.peak_context > capacity for decoder in decoders) / num_ranks,
        rows=rows,
    )
