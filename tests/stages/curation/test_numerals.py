import pytest

from stages.curation.normalisation import comparison_key, words
from stages.curation.numerals import linear_fractions


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("three red cars", "3 red cars"),
        ("twox squared plus 1", "$2x^2$ plus 1"),
        ("fourxy cubed", "$4xy^3$"),
        ("x to the power of seven", "x^7"),
        ("raised to the power of n", "^n"),
        ("the square root of five", r"the $\sqrt{5}$"),
        ("(five)/(six)", r"$\frac{5}{6}$"),
        ("five sixths", r"\dfrac56"),
        ("5/6", r"{5 \over 6}"),
        ("one half", r"\frac12"),
        ("half of them", r"$\frac{1}{2}$ of them"),
        ("a third of it", "1/3 of it"),
        ("(x + 1)/(x - one)", r"\frac{x + 1}{x - 1}"),
        (r"(a)/((b)/(c))", r"\frac{a}{\frac{b}{c}}"),
        ("twenty-one days", "21 days"),
        ("two thousand three hundred and five", "2,305"),
        ("a hundred and twenty thousand", "120,000"),
        ("2.5 million", "2500000"),
        ("the twenty-first of the fourth", r"the 21st of the $4^{\text{th}}$"),
        ("ten percent", "10%"),
        ("买三个苹果和二十五个梨", "买3个苹果和25个梨"),
        ("一千零五元", "1005元"),
        ("5万人", "五万人"),
        ("一亿二千万", "1.2亿"),
        ("三分之二", "2/3"),
        ("百分之五", "5%"),
        ("一半", "1/2"),
        ("二〇二四年", "2024年"),
    ],
)
def test_a_number_is_the_same_however_it_is_written(one, other):
    assert comparison_key(one) == comparison_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("three red cars", "4 red cars"),
        ("two three", "5"),
        ("two hundred", "2 100"),
        ("twenty five", "20 6"),
        ("five sixths", "5 6"),
        ("x squared", "x 2"),
        ("二十三", "二 三"),
        ("二十三，一个", "二十一"),
        ("3千克", "3000克"),
        ("(1,250)", "1250"),
        (r"\frac{a}{b + 1}", r"\frac{a}{b} + 1"),
        ("(x + 1)/2", "x + 1/2"),
        ("the third term", "the fourth term"),
    ],
)
def test_numbers_that_differ_stay_apart(one, other):
    assert comparison_key(one) != comparison_key(other)


@pytest.mark.parametrize(
    "text",
    [
        "one of them has no one",
        "first of all wait a second",
        "tens of tents tend to one",
        "一个一样的",
        "千克",
        "the twos",
    ],
)
def test_words_that_are_no_numbers_stay(text):
    assert not any(word[0].isdigit() for word in words(text))


def test_one_is_a_number_inside_a_formula_alone():
    assert words("x + one = (one)/(two)") == words("x + 1 = 1/2")
    assert words("twenty one") == ["21"] and words("one hundred") == ["100"]


@pytest.mark.parametrize(
    "text", [r"\frac", r"\frac{1", r"\frac{1}{2", r"\frac{1}", r"\frac}{", "two", "百", "分之", "a"]
)
def test_what_breaks_off_stays(text):
    assert linear_fractions(text) == text
    assert isinstance(words(text), list)


def test_long_digits_keep_every_digit():
    assert words("12345678901234567890 007") == ["12345678901234567890", "007"]


@pytest.mark.parametrize("text", [r"\frac{" * 20_000, "two hundred " * 20_000, "二" * 20_000, "(5)/" * 20_000])
def test_long_texts_take_linear_time(text):
    assert words(text)
