"""The cluster on paper, by hand: one or two ranks, a decode step and a trained token take a second each, and nothing else takes time."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from statistics import fmean

import pytest

from benchmarks.__main__ import WITH_ARGUMENTS
from benchmarks.cluster import write
from benchmarks.cluster_costs import Cluster, Lengths, log_centre, mean_after_cut
from benchmarks.cluster_methods import Groups, Method, Pool, Step, World, dealt, pooled, synchronous
from benchmarks.cluster_page import end_to_end_ratio, findings, lost_share, mean_age, rollout_ratio, sections, verdict
from benchmarks.cluster_rollout import Decoder, Row
from benchmarks.cluster_runs import methods, pool_method, scenarios, simulate
from stages.config import Objective
from stages.training.dealing import share_of_rank

SECONDS = Cluster(
    num_ranks=2, prompts_per_step=2, samples_per_prompt=2, total_parameters=0, expert_parameters=0, context_bytes=1e-9,
    decode_seconds=1, active_parameters=1, flops=1, prefill_share=1e12, training_share=1, training_flops=1, prompt_tokens=0,
    switch_seconds=0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Given:
    """Lengths by group."""

    by_group: tuple[tuple[int, ...], ...]
    limit: int = 100

    def of_group(self, group: int, **_: int) -> list[int]:
        return list(self.by_group[group])


def world_of(*groups: tuple[int, ...], budget: int = 7, ranks: int = 2, samples: int = 2) -> World:
    cluster = replace(SECONDS, token_budget=budget, num_ranks=ranks, samples_per_prompt=samples)
    return World(cluster=cluster, lengths=Given(groups))


def step_of(method: str, world: World) -> Step:
    [[step]] = synchronous(world, [methods(world.cluster)[method]], num_steps=1)
    return step


def parts_of(step: Step) -> tuple[float, ...]:
    return step.rollout, step.rollout_idle, step.training, step.training_idle, step.overhead


# ---------------------------------------------------------------- synchronous steps

TWO = ((2, 4), (1, 7))  # rank 0 decodes for 4 s, rank 1 for 7 s


def test_ranks_wait_for_the_slowest_sampler_and_the_slowest_trainer() -> None:
    step = step_of("GRPO, where sampled", world_of(*TWO))
    # sampling 4 and 7 s, training 6 and 8 tokens
    assert parts_of(step) == pytest.approx((5.5, 1.5, 7.0, 1.0, 0.0))
    assert step.seconds == pytest.approx(15)
    assert step.idle_share == pytest.approx(2.5 / 15)
    # two slots on two ranks for 7 s; rows decode 2 + 4 + 1 + 7 s
    assert step.filled_share == pytest.approx(14 / 28)
    assert (step.num_trained, step.num_sampled, step.num_lost, step.mean_length) == (14, 14, 0, 3.5)


def test_dealt_responses_are_trained_where_the_turns_from_short_to_long_put_them() -> None:
    step = step_of("GRPO, dealt", world_of(*TWO))
    # 1 and 4 to rank 0, 2 and 7 to rank 1
    assert parts_of(step) == pytest.approx((5.5, 1.5, 7.0, 2.0, 0.0))


@pytest.mark.parametrize("num_ranks", [1, 3, 4])
def test_tokens_are_dealt_as_the_trainer_deals_them(num_ranks: int) -> None:
    lengths = [5, 3, 9, 9, 1, 2, 2, 8, 30, 4]
    expected = [
        sum(lengths[index] for index in share_of_rank(lengths, rank=rank, num_ranks=num_ranks))
        for rank in range(num_ranks)
    ]
    assert dealt([(0, length) for length in lengths], num_ranks=num_ranks) == expected


def test_every_rank_is_cut_to_its_own_budget_and_gets_nothing_of_another() -> None:
    step = step_of("C3PO per rank, where sampled", world_of(*TWO, budget=7))
    # rank 0 has 6 tokens, rank 1 trains 7 of its 8
    assert (step.num_trained, step.num_lost) == (13, 1)
    assert parts_of(step) == pytest.approx((5.5, 1.5, 6.5, 0.5, 0.0))


def test_a_budget_of_all_ranks_is_filled_by_whoever_has_tokens() -> None:
    step = step_of("C3PO global, where sampled", world_of(*TWO, budget=7))
    assert (step.num_trained, step.num_lost) == (14, 0)


def test_prompts_that_are_asked_because_tokens_lack_are_a_wave_of_their_own_on_the_rank_that_lacks_them() -> None:
    step = step_of("C3PO per rank, extra prompts", world_of(*TWO, (3, 3), budget=7))
    # rank 0 lacks a token and gets another prompt: 3 s more, in which rank 1 waits
    assert step.num_waves == 2
    assert (step.rollout, step.rollout_idle) == pytest.approx((7.0, 3.0))
    assert (step.num_trained, step.num_sampled, step.num_lost) == (14, 20, 6)
    # filled slots: 14 s of 28 in the first wave, 6 s of 12 in the second
    assert step.filled_share == pytest.approx(20 / 40)


def test_prompts_that_lack_for_one_budget_of_all_ranks_are_spread_over_them() -> None:
    step = step_of("C3PO global, extra prompts", world_of(*TWO, (3, 3), (2, 2), budget=10))
    # 6 of 20 tokens lack, 7 a prompt so far: one more, on rank 0
    assert step.num_waves == 2
    assert (step.num_trained, step.num_sampled) == (20, 20)


def test_methods_train_from_the_same_responses() -> None:
    listed = list(methods(SECONDS).values())
    world = World(cluster=replace(SECONDS, token_budget=20), lengths=Lengths(mean=10, limit=20))
    by_method = synchronous(world, [method for method in listed if not method.extra], num_steps=2)
    for at_step in zip(*by_method, strict=True):
        assert len({(step.num_sampled, step.rollout_phase) for step in at_step}) == 1


# ---------------------------------------------------------------- C3PO++


def pool_of(world: World, *, slots: int, **settings: int | bool) -> Pool:
    return Pool(world, pool_method(world.cluster, slots=slots, **settings))


SINGLE = ((1,), (5,), (6,), (20,), (6,), (9,))  # one response a prompt, one slot a rank, Phi of both ranks 6


def test_an_update_comes_when_finished_tokens_reach_the_budget_and_the_rest_goes_on_after_it() -> None:
    pool = pool_of(world_of(*SINGLE, budget=3, samples=1), slots=1)
    first = pool.advance()
    # 1 ends at 1 s, 5 at 5 s: 6 tokens; the third prompt, asked at 1 s, has 4 of its 6 tokens by then
    assert (first.rollout, first.rollout_idle) == pytest.approx((5.0, 0.0))
    assert (first.num_trained, first.num_sampled, first.num_lost) == (6, 10, 0)
    assert (first.age_sum, first.max_age, first.filled_share) == (0, 0, pytest.approx(1))
    second = pool.advance()
    # the third prompt ends after 2 s more: 4 tokens one update old, 2 new; the fourth has 2 of its 20
    assert second.rollout_phase == pytest.approx(2)
    assert (second.num_trained, second.num_sampled, second.age_sum, second.max_age) == (6, 4, 4, 1)
    third = pool.advance()
    assert third.rollout_phase == pytest.approx(6)
    assert (third.num_trained, third.age_sum, third.mean_length) == (6, 0, 6)


def test_a_response_that_outlives_more_updates_than_it_may_is_dropped_with_its_tokens() -> None:
    world = world_of(*SINGLE, (7,), budget=3, samples=1)
    pool = pool_of(world, slots=1, expiry=1)
    # the fourth prompt's 20 tokens begin in the second phase (2 tokens) and outlive updates 2 and 3 (6 tokens more)
    assert [pool.advance().num_lost for _ in range(3)] == [0, 0, 8]
    assert [row.group for decoder in pool.decoders for _, _, row in decoder.running] == []
    patient = pool_of(world, slots=1, expiry=2)
    assert [patient.advance().num_lost for _ in range(3)] == [0, 0, 0]


def test_what_of_finished_responses_is_past_the_budget_is_lost() -> None:
    pool = pool_of(world_of((4,), (5,), (9,), (9,), budget=3, samples=1), slots=1)
    step = pool.advance()
    # 4 tokens at 4 s do not reach 6, 5 more at 5 s do
    assert (step.num_trained, step.num_lost) == (6, 3)


def test_with_whole_groups_a_finished_response_waits_for_the_others_of_its_prompt() -> None:
    world = world_of((1, 4), (2, 2), (9, 9), budget=4, ranks=1)
    alone = pool_of(world, slots=2).advance()
    # 1 at 1 s, 2 at 3 s, 4 at 4 s: all of the first prompt and one of the second
    assert (alone.rollout_phase, alone.num_lost) == (pytest.approx(4), 3)
    pool = pool_of(world, slots=2, whole_groups=True)
    whole = pool.advance()
    assert (whole.rollout_phase, whole.num_trained, whole.num_lost) == (pytest.approx(4), 4, 1)
    assert list(pool.groups.held) == [1]


def test_the_last_of_a_prompt_may_be_dropped_rather_than_finish() -> None:
    groups = Groups(num_samples=3)
    rows = [Row(group=5, sample=sample, rank=0, length=9) for sample in range(3)]
    assert groups.add(rows[0]) == []
    assert groups.drop(rows[1]) == []
    assert groups.add(rows[2]) == [rows[0], rows[2]]


def test_unfinished_responses_are_read_again_after_an_update() -> None:
    world = world_of(*SINGLE, budget=3, samples=1)
    slow = replace(world, cluster=replace(world.cluster, prefill_share=2.0))  # a token is read in 1 s
    pool = pool_of(slow, slots=1)
    first, second = pool.advance(), pool.advance()
    # a decode step of one row: 1 s, and 1 s for its product; 4 tokens are read again on rank 0, nothing on rank 1
    assert first.rollout_phase == pytest.approx(10)
    assert second.rollout_phase == pytest.approx(4 + 2 * 2)


# ---------------------------------------------------------------- decoding


def slow_seconds(cluster: Cluster, lengths: list[int], *, steps: int) -> float:
    """Step by step: rows that are left, and what they hold."""
    seconds = 0.0
    for step in range(steps):
        left = [length for length in lengths if length > step]
        seconds += cluster.row_seconds(len(left)) + len(left) * step * cluster.context_seconds
    return seconds


def test_time_from_end_to_end_is_that_of_every_step_by_itself() -> None:
    lengths = [30, 700, 31, 250]
    decoder = Decoder(Cluster(prompt_tokens=0), num_slots=4)
    decoder.add_group(Row(0, sample, 0, length) for sample, length in enumerate(lengths))
    decoder.fill()
    for length in sorted(lengths):
        assert decoder.next_end() == pytest.approx(slow_seconds(decoder.cluster, lengths, steps=length))
        assert decoder.end_next().length == length
        assert decoder.seconds == pytest.approx(slow_seconds(decoder.cluster, lengths, steps=length))
    assert (decoder.context, decoder.num_sampled) == (0, sum(lengths))
    # rows that hold most: two of them after 250 steps, or all four after 30
    assert decoder.peak_context == 700


def test_a_rank_that_is_stopped_has_taken_every_whole_step_before() -> None:
    decoder = Decoder(Cluster(prompt_tokens=0), num_slots=2)
    decoder.add_group([Row(0, 0, 0, 9_000), Row(0, 1, 0, 9_000)])
    decoder.fill()
    second = 20.0
    decoder.decode_until(second)
    steps = decoder.num_steps
    assert slow_seconds(decoder.cluster, [9_000] * 2, steps=steps) <= second
    assert slow_seconds(decoder.cluster, [9_000] * 2, steps=steps + 1) > second


def test_rows_beyond_the_slots_wait() -> None:
    decoder = Decoder(SECONDS, num_slots=1)
    decoder.add_group([Row(0, 0, 0, 3), Row(0, 1, 0, 2)])
    decoder.fill()
    assert len(decoder.running) == 1
    assert decoder.end_next().length == 3
    decoder.fill()
    assert decoder.next_end() == pytest.approx(5)


# ---------------------------------------------------------------- costs and lengths


def test_a_single_row_reads_the_parameters_that_a_token_is_computed_with() -> None:
    cluster = Cluster()
    shared = cluster.total_parameters - cluster.expert_parameters
    assert shared + cluster.expert_parameters * cluster.touched_share(1) == pytest.approx(
        cluster.active_parameters, rel=0.01
    )
    assert cluster.touched_share(2) == pytest.approx(1 - (58 / 64) ** 2)
    assert replace(cluster, reads_all_experts=True).touched_share(1) == 1


def test_costs_are_those_of_the_arithmetic() -> None:
    cluster = Cluster()
    # 33.6 GB at 70 % of 3.35 TB/s, 3 ms, and 16 x 2 x 2.75e9 FLOP at 40 % of 989 TFLOP/s
    everything = replace(cluster, reads_all_experts=True).row_seconds(16)
    assert everything == pytest.approx(0.003 + 0.0143284 + 16 * 1.390293e-5, rel=1e-5)
    # 57 344 bytes a token; 72 GB less 33.6 GB
    assert cluster.context_seconds == pytest.approx(57_344 / 2.345e12)
    assert cluster.context_capacity == 669_642
    # 8 x 2.75e9 FLOP at 30 % of the peak
    assert cluster.training_seconds * 409_600 == pytest.approx(30.371, abs=1e-3)
    assert cluster.overhead_seconds == pytest.approx(3 * 0.672 + 5)
    assert (cluster.responses_per_rank, cluster.total_budget) == (32, 104_857_600)


@pytest.mark.parametrize(
    ("mean", "limit", "spread"), [(12_800, 24_576, 0.6), (20_000, 24_576, 0.3), (12_800, 65_536, 1.0)]
)
def test_lengths_have_the_mean_after_the_cut(mean: float, limit: int, spread: float) -> None:
    centre = log_centre(mean, limit=limit, spread=spread)
    assert mean_after_cut(centre, limit=limit, spread=spread) == pytest.approx(mean)
    lengths = Lengths(mean=mean, limit=limit, spread=spread)
    drawn = [length for group in range(3_000) for length in lengths.of_group(group, step=0, num_samples=4, seed=0)]
    assert fmean(drawn) == pytest.approx(mean, rel=0.03)
    assert max(drawn) == limit
    assert min(drawn) >= 1


def test_lengths_grow_with_the_step_and_are_the_same_for_the_same_seed() -> None:
    lengths = Lengths(growth=0.01, between=1.0)
    first, again, later, other = (
        lengths.of_group(7, step=step, num_samples=3, seed=seed) for step, seed in ((0, 0), (0, 0), (20, 0), (0, 1))
    )
    assert first == again
    assert first != other
    assert later > first
    assert len(set(first)) == 1


# ---------------------------------------------------------------- what is said


def steps_of(*rows: tuple[float, float, int, int, int, float]) -> list[Step]:
    return [
        Step(rollout, 0.0, training, 0.0, 0.0, trained, sampled, lost, 1.0, age_sum=ages)
        for rollout, training, trained, sampled, lost, ages in rows
    ]


def test_ratios_are_of_seconds_for_a_trained_token() -> None:
    reference = steps_of((10, 2, 4, 4, 0, 0), (14, 2, 4, 4, 0, 0))  # 3 s of sampling and 3.5 s a token
    steps = steps_of((5, 2, 5, 8, 1, 6), (5, 3, 5, 8, 3, 2))  # 1 s and 1.5 s
    assert rollout_ratio(steps, reference) == pytest.approx(3)
    assert end_to_end_ratio(steps, reference) == pytest.approx(3.5 / 1.5)
    assert lost_share(steps) == 4 / 16
    assert mean_age(steps) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((2.5, 3, 4), "confirmed on paper"),
        ((1, 2.5, 2), "only with b"),
        ((1, 3, 4), "only with b or c"),
        ((1, 2, 2), "not on paper"),
    ],
)
def test_a_claim_holds_everywhere_or_under_what_is_named_or_not(values: tuple[float, ...], expected: str) -> None:
    assert verdict(dict(zip("abc", values, strict=True)), 2.5) == expected


def test_scenarios_change_something_each() -> None:
    worlds = dict(scenarios(World()))
    assert len(set(worlds.values())) == len(worlds)
    assert worlds["as assumed"] == World()


def test_the_page_is_the_same_for_the_same_seed_and_its_plots_stand_by_themselves(tmp_path) -> None:
    cluster = Cluster(num_ranks=2, prompts_per_step=4, samples_per_prompt=4, token_budget=4_000)
    small = World(cluster=cluster, lengths=Lengths(mean=500, limit=960))
    results = simulate(small, num_steps=6)
    write(results, tmp_path / "a" / "cluster.md")
    write(simulate(small, num_steps=6), tmp_path / "b" / "cluster.md")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["cluster-drift.svg", "cluster-step.svg", "cluster.md"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    text = (tmp_path / "a" / "cluster.md").read_text(encoding="utf-8")
    assert all(f"## {section.title}\n" in text for section in sections(results))
    assert all(len(line) <= 140 or line.startswith("|") for line in text.splitlines())
    assert 5 <= len(findings(results)) <= 8
    for name in names[:2]:
        assert name in text
        assert (
            ET.fromstring((tmp_path / "a" / name).read_text(encoding="utf-8")).tag == "{http://www.w3.org/2000/svg}svg"
        )


def test_the_command_takes_arguments() -> None:
    assert "cluster" in WITH_ARGUMENTS


def test_a_pool_of_as_many_slots_as_responses_samples_faster_than_waiting_for_the_longest() -> None:
    cluster = Cluster(num_ranks=4, prompts_per_step=8, samples_per_prompt=4, token_budget=8_000)
    world = World(cluster=cluster, lengths=Lengths(mean=1_000, limit=2_000))
    [reference] = synchronous(world, [Method("GRPO", Objective(kind="grpo"))], num_steps=8)
    steps = pooled(world, pool_method(cluster, slots=8), num_steps=8)[2:]
    assert rollout_ratio(steps, reference) > 1.2
