import pyarrow.parquet as pq
import pytest

from stages.curation.language import language_of
from stages.curation.traces import trace_fault

THOUGHT = " ".join(f"Step {i}: we add {i} to what we had and get {i * (i + 1) // 2} so far." for i in range(1, 60))
PROMPT = "Add the numbers from 1 to 59."


def _fault(thought, answer="\\boxed{1770}", prompt=PROMPT):
    found = trace_fault(f"<think>{thought}</think> {answer}", prompt)
    return found and found[0]


def test_a_sound_trace_has_no_fault():
    assert _fault(THOUGHT) is None


def test_a_worked_solution_is_no_trace():
    assert trace_fault("We get \\boxed{1770}.", PROMPT) is None


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        (f"<think>{THOUGHT}", "trace: thinking not closed"),
        (f"<think>{THOUGHT}</think>\n ", "trace: cut off"),
        (
            f"<think>{THOUGHT} " + "Wait, let me check this once more, since I am not sure of it. " * 4 + "</think> 1",
            "trace: repetition",
        ),
        (f"<think>{THOUGHT} {THOUGHT}</think> 1", "trace: repetition"),
        (
            f"<think>{THOUGHT} 我们再检查一遍这个结果是不是正确的，因为我不太确定它是不是真的，然后继续检查所有的步骤。</think> 1",
            "trace: mixed languages",
        ),
    ],
)
def test_a_trace_that_teaches_a_fault_is_dropped(solution, reason):
    found = trace_fault(solution, PROMPT)
    assert found is not None and found[0] == reason and found[1]


def test_what_goes_round_in_circles_needs_no_tags_and_no_spaces():
    again = "Wait, let me think about this once more, since I am not sure that it holds. "
    assert (trace_fault(again * 60 + "\\boxed{1}", PROMPT) or "")[0] == "trace: repetition"
    assert (
        _fault("我们再检查一遍这个结果是不是正确的，因为我不太确定。" * 80, prompt="一加一是多少？")
        == "trace: repetition"
    )
    assert trace_fault("if a == 1 and b == 2 and c == 3:\n    print(a, b, c)\n" * 60, PROMPT, is_program=True) is None


def test_no_language_may_be_mixed_in_but_greek_letters_are_mathematics():
    russian = "А теперь проверим ещё раз, верно ли это, и запишем ответ."
    english = "Now let us check this once more with great care, so that nothing is left out of what was found before, and write it down. "
    assert _fault(f"{THOUGHT} {russian}") == "trace: mixed languages"
    chinese = "先把一加到五十九，得到一千七百七十，再检查每一步是不是都对，最后把结果写下来。"
    assert _fault(chinese + english, prompt="一加到五十九是多少？") == "trace: mixed languages"
    assert _fault(chinese, prompt="一加到五十九是多少？") is None
    assert (
        _fault(f"{THOUGHT} So θ = π - α, β = γ + δ, and ω follows from λ, μ, ν, ξ and ρ as before, with σ and τ.")
        is None
    )


def test_a_chinese_problem_may_be_thought_about_in_chinese():
    assert _fault("先把一加到五十九，再除以二，得到一千七百七十。", prompt="把一加到五十九是多少？") is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How many apples are left?", "en"),
        ("小明有多少个苹果？设 $x^2 + y = 3$，求 x", "zh"),
        ("Сколько яблок осталось?", "other"),
        ("1 + 2 = ?", "none"),
        (r"$\frac{a}{b} = \sqrt{c}$", "none"),
    ],
)
def test_the_language_is_told_by_the_letters_outside_formulas(text, language):
    assert language_of(text) == language


def test_real_traces_are_faulted_for_what_is_known_of_them(public_data):
    rows = pq.read_table(public_data / "physics_r1_traces.parquet").to_pylist()
    faults = [trace_fault(row["solution"], row["prompt"]) for row in rows]
    reasons = [fault[0] for fault in faults if fault]
    assert reasons.count("trace: thinking not closed") == 124  # of 125; one of them goes round in circles
    assert reasons.count("trace: repetition") == 1
    assert len(reasons) == 126
