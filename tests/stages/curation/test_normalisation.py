import pytest

from stages.curation.normalisation import answer_words, comparison_key, without_label, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  two?", "what is two"),
        (r"Find $\dfrac{1}{2}$.", r"Find \(\frac{1}{2}\)"),
        (r"$a \cdot b$", "a × b"),
        (r"Let $x\le 5$, then", r"Let $x \leq 5$ then"),
        (r"$\left( 3,4 \right)$", "(3, 4)"),
        (r"an angle of $60^\circ$", "an angle of 60°"),
        ("a right-angled triangle", "a right angled triangle"),
        (r"$3\text{ cm}$", "3 cm"),
        ("ｘ＋１", "x+1"),
        ("A∪B", r"$A \cup B$"),
        ("√16 + 5²", r"$\sqrt{16} + 5^2$"),
        ("x₅ ÷ 4", "$x_5 / 4$"),
        ("a≠π", r"$a \neq \pi$"),
    ],
)
def test_two_spellings_of_a_problem_have_one_key(one, other):
    assert comparison_key(one) == comparison_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("6 * 2", "6 + 2"),
        ("A∪B", "A∩B"),
        ("√16 + 3", "16 + 3"),
        ("12 ÷ 4", "12 : 4"),
        ("5²", "52"),
        ("x⁵", "x₅"),
        ("AB∥CD", "AB⊥CD"),
        ("🍎 = ?", "🍌 = ?"),
        ("solve 4 ( x + 5 ) = 32", "solve 4 x + 5 = 32"),
        ("x - y", "x + y"),
        ("1.5", "15"),
        ("2^10", "210"),
        ("x < 3", "x > 3"),
        ("5!", "5"),
        ("f'(x)", "f(x)"),
        ("program rev rot : 1 2 3 4", "program rot rev : 1 2 3 4"),
        ("[0, 1)", "[0, 1]"),
    ],
)
def test_two_problems_have_two_keys(one, other):
    assert comparison_key(one) != comparison_key(other)


def test_signs_of_chinese_are_words():
    assert words("共有6个") == ["共", "有", "6", "个"]


def test_a_text_without_words_is_its_own_key():
    assert comparison_key(" ;) ") != comparison_key(" ?? ")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (r"\$3,\!250.50", ["3250.5"]),
        ("12{,}345{,}678", ["12345678"]),
        ("007", ["7"]),
        (".05", ["0.05"]),
        ("1.050", ["1.05"]),
        ("1.0", ["1"]),
        ("10.00 100", ["10", "100"]),
        ("(1,250)", ["(", "1", "250", ")"]),
        (r"\left[1,250\right]", ["[", "1", "250", "]"]),
        ("1,25", ["1", "25"]),
        ("0", ["0"]),
    ],
)
def test_the_words_of_an_answer_do_not_depend_on_how_its_number_is_grouped_or_padded(answer, expected):
    assert answer_words(answer) == expected


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Problem 12: Find x.", "Find x."),
        ("Problem 12\nFind x.", "Find x."),
        ("**Exercise 5.1** Find x.", "Find x."),
        ("Problem 3 (AIME 2012) Find x.", "Find x."),
        ("(3) Find x.", "Find x."),
        ("No 2 people may sit together. How can they?", None),
        ("Exercise 30 minutes a day for how long?", None),
        ("Task 3 workers with it. Who is done?", None),
        ("1.5 litres weigh how much?", None),
    ],
)
def test_a_label_ends_with_a_sign_and_a_number_within_a_sentence_is_none(text, rest):
    assert without_label(text) == (rest or text)
