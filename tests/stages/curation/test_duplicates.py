import random
import shutil

import pytest

from stages.config import Duplicates
from stages.curation.duplicates import drop_duplicates

STORY = "A baker sells {a} loaves on Monday and {b} loaves on Tuesday, each for the same price. She takes {c} dollars. Find the price."


@pytest.fixture
def found(pool, funnel, dropped):
    def run(*batches, **rule):
        shutil.rmtree(funnel.state, ignore_errors=True)
        step = drop_duplicates(pool(*batches), Duplicates(**rule), funnel)[1]
        return {row["id"]: (row["reason"], row["against"]) for row in dropped(step)}

    return run


def test_rows_with_the_same_text_are_one(problem, batch, found):
    rows = [
        problem(r"Find \(\frac12\) of 6.", id="a"),
        problem(r"find $\dfrac12$ of 6", id="b"),
        problem(r"Find \(\frac12\) of 8.", id="c"),
        problem(r"Find \(\frac12\) of 6.", id="d"),
    ]
    assert found(batch(*rows)) == {
        "b": ("duplicate: same text after normalisation", "a"),
        "d": ("duplicate: same text", "a"),
    }


def test_the_copy_that_stays_is_of_the_preferred_source_then_solved_then_of_the_smallest_id(problem, batch, found):
    rows = [
        problem(id="z", source="one"),
        problem(id="b", source="two"),
        problem(id="c", source="two", solution=r"\boxed{42}"),
        problem(id="a", source="two"),
    ]
    assert {against for _, against in found(batch(*rows)).values()} == {"z"}
    assert {against for _, against in found(batch(*rows[1:]), near=0).values()} == {"c"}
    assert {against for _, against in found(batch(*rows), source_priority=("two",)).values()} == {"c"}
    assert {against for _, against in found(batch(rows[1], rows[3])).values()} == {"a"}


def test_of_samples_of_one_prompt_one_that_ends_with_the_answer_stays(problem, program, batch, found):
    samples = [
        problem(id="a", solution=r"It is \boxed{41}."),
        problem(id="b", solution="It is late."),
        problem(id="c", solution="6 * 7 is 42.\n#### 42"),
        problem(id="d"),
    ]
    assert {against for _, against in found(batch(*samples)).values()} == {"c"}
    assert {against for _, against in found(batch(samples[3], samples[1])).values()} == {"b"}
    assert {
        against for _, against in found(batch(program(id="e"), program(id="f", solution="def add(a, b): ..."))).values()
    } == {"f"}


def test_a_few_other_letters_make_a_near_copy_and_other_numbers_do_not(problem, batch, found):
    rows = [
        problem(STORY.format(a=3, b=4, c=35), id="a", answer="5"),
        problem(STORY.format(a=3, b=4, c=35).replace("baker", "bakker"), id="b", answer="5"),
        problem(STORY.format(a=3, b=4, c=42), id="c", answer="6"),
    ]
    assert found(batch(*rows), meaning=0) == {"b": ("duplicate: near", "a")}
    assert found(batch(*rows), meaning=0, near=0) == {}


def test_rows_whose_answers_differ_are_no_near_copies(problem, batch, found):
    rows = [problem("Find the smallest prime above the number that I name: " + text, id=text, answer=answer)
            for text, answer in (("ninety one", "97"), ("ninety onf", "101"))]  # fmt: skip
    assert found(batch(*rows)) == {}


def test_another_wording_with_the_same_numbers_and_answer_has_the_same_meaning(problem, batch, found):
    rows = [
        problem(STORY.format(a=3, b=4, c=35), id="a", answer="5"),
        problem(
            "On Tuesday a baker sells 4 loaves, on Monday 3 loaves, each for the same price, and takes 35 dollars. What is the price?",
            id="b",
            answer="5",
        ),
        problem("A train of 35 cars passes 3 stations and 4 bridges. How many stops does it make?", id="c", answer="5"),
    ]
    assert found(batch(*rows)) == {"b": ("duplicate: same meaning", "a")}
    assert found(batch(*rows), meaning=0) == {}


def test_changed_numbers_are_a_policy_of_their_own(problem, batch, found):
    rows = [problem(STORY.format(a=n, b=n + 1, c=7 * n), id=str(n), answer=str(n)) for n in (2, 3, 4)]
    assert found(batch(*rows)) == {}
    assert found(batch(*rows), changed_numbers="drop") == {
        "3": ("duplicate: numbers changed", "2"),
        "4": ("duplicate: numbers changed", "2"),
    }


def test_generated_rows_are_told_apart_by_their_text_alone(problem, batch, found):
    rows = [problem(STORY.format(a=3, b=4, c=35) + end, id=f"a{end}", answer="5") for end in ("", " Now")]
    assert set(found(batch(*rows))) == {"a Now"}
    assert found(batch(*rows, generated=True)) == {}


def test_no_row_goes_for_a_row_that_goes(problem, batch, found):
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=5)) for _ in range(30)]
    texts = []
    for _ in range(30):  # each differs from the one before by one word: the first and the last are not alike
        words[rng.randrange(30)] = "".join(rng.choices("nopqrstu", k=5))
        texts.append(" ".join(words))
    rows = [problem(text, id=f"{n:02d}", answer="1") for n, text in enumerate(texts)]
    gone = found(batch(*rows[:15]), batch(*rows[15:]))
    assert gone and not {against for _, against in gone.values()} & set(gone)
    assert len(gone) < len(rows) - 1


def test_where_the_answers_of_copies_disagree_the_recipe_says_how_many_must_agree(problem, batch, found):
    rows = [problem(id=str(n), answer=answer) for n, answer in enumerate(["41", "42", "42", "43", "42"])]
    assert "0" not in found(batch(*rows))
    assert found(batch(*rows), agreement=0.5)["0"][0] == "answers disagree"  # its own is not the most common
    assert "1" not in found(batch(*rows[1:]), agreement=0.5)
    assert found(batch(*rows[1:]), agreement=0.8)["1"][0] == "answers disagree"
    assert found(batch(*rows[2:4]), agreement=0.5)["2"][0] == "answers disagree"  # one against one


def test_samples_of_one_problem_vote_on_its_answer(problem, batch, found):
    def rows(*answers):
        return [problem(id=str(n), solution=rf"So \boxed{{{answer}}}.") for n, answer in enumerate(answers)]

    assert "0" not in found(batch(*rows("42", "41", "42", "$42$")), agreement=0.75)
    assert found(batch(*rows("42", "41", "40", "41")), agreement=0.5)["0"][0] == "answers disagree"
    assert "0" not in found(batch(*rows("42", "41", "40", "41")))  # the recipe does not ask


def test_answers_of_other_signs_are_other_answers(problem, batch, found):
    text = "Multiply and simplify {}5 sqrt 15 times 3 sqrt 3 plus 2 in the way that the class was shown on Monday"
    rows = [problem(text.format(""), id="a", answer="45 - 10"), problem(text.format("the "), id="b", answer="-45 - 10")]
    assert found(batch(*rows)) == {}


def test_other_functions_make_another_problem_and_another_name_for_the_logarithm_does_not(problem, batch, found):
    text = "Find the antiderivative of the following function, and simplify what you find: {} x plus 3"
    rows = [problem(text.format(name), id=name, answer="") for name in (r"\ln", r"\log", r"\sin", r"\cos")]
    assert found(batch(*rows)) == {r"\log": ("duplicate: near", r"\ln")}


@pytest.mark.parametrize(
    ("one", "other"), [("2", r"2\pi"), ("2", r"\sqrt{2}"), ("3", "3!"), (r"\ln 2", "2"), ("2^3", "23")]
)
def test_constants_and_functions_make_another_answer(problem, batch, found, one, other):
    text = "Find the limit of the sequence that {} was written on the board when the class came in at 9"
    rows = [problem(text.format("it"), id="a", answer=one), problem(text.format("is"), id="b", answer=other)]
    assert found(batch(*rows)) == {}


@pytest.mark.parametrize("other", [r"3,\!250", "3,250", "3{,}250", "3250", "03250"])
def test_one_number_in_another_spelling_is_the_same_answer(problem, batch, found, other):
    rows = [problem(id="0", answer="3250"), problem(id="1", answer=other), problem(id="2", answer=other)]
    assert "0" not in found(batch(*rows), agreement=0.9)


def test_a_copy_names_the_row_that_stays_in_the_end(problem, batch, found):
    near = STORY.format(a=3, b=4, c=35).replace("baker", "bakker")
    rows = [problem(STORY.format(a=3, b=4, c=35), id="a", answer="5")]
    rows += [problem(near, id=name, answer="5") for name in ("b", "c")]
    assert {name: against for name, (_, against) in found(batch(*rows)).items()} == {"b": "a", "c": "a"}


def test_no_row_goes_for_one_that_is_disputed(problem, batch, found):
    text = STORY.format(a=3, b=4, c=35)
    rows = [problem(text, id="a", answer="5"), problem(text, id="b", answer="7")]
    rows.append(problem(text.replace("baker", "bakker"), id="c", answer="5"))
    gone = found(batch(*rows), agreement=0.9)
    assert gone["a"][0] == "answers disagree" and "c" not in gone
