import math

import pyarrow.parquet as pq
import pytest

from data.schema import problems_from_table
from stages.config import Decontamination
from stages.curation.contamination import MeasuredRow
from stages.curation.decontamination import leak_index
from stages.curation.translations import Kept, Translations

HOUSE = "Josh buys a house for $80,000 and puts in 50,000 in repairs, so its value rises by 150%. What is his profit?"
HOUSE_ZH = "乔希花了80,000美元买了一套房子，然后投入5万美元进行维修，房子的价值增加了150%。他赚了多少利润？"
OTHERS = [f"Add {number} apples to {number + 1} pears and count all of them." for number in range(200, 900)]


def _translations(*rows):
    return Translations(rows, OTHERS)


def test_numbers_are_the_same_however_they_are_written():
    english = Kept.of("Buy twelve eggs, twenty plums and 80,000 nuts, twice", "1,200")
    chinese = Kept.of("买十二个鸡蛋、二十个李子和8万颗坚果，两次", "1200")
    assert english.facts == chinese.facts == {"12": 1, "20": 1, "80000": 1, "2": 1}
    assert english.answer == chinese.answer == "1200"


@pytest.mark.parametrize(
    ("numeral", "value"), [("十五", 15), ("二十", 20), ("三百零五", 305), ("两千", 2000), ("一万二千", 12_000)]
)
def test_a_chinese_numeral_is_its_value(numeral, value):
    assert Kept.of(f"他有{numeral}元").spelled == {str(value): 1}


def test_a_translation_of_a_row_is_found_by_what_it_keeps():
    found = _translations((HOUSE, "70000")).find(HOUSE_ZH, "70000", least=0.9)
    assert found == [(1.0, 0)]


def test_the_likeness_is_the_share_of_written_facts_in_the_worse_direction():
    # 704 texts: each fact stands in one measured row, so each weighs ln(705 / 2); 4 of the text's 5 are in the row
    rows = [(HOUSE, "70000"), *((f"{n} is a year", f"{n}") for n in (1901, 1902, 1903))]
    index = Translations(rows, OTHERS)
    text = HOUSE_ZH.replace("150%", "150%，又增加了7777和8888")
    ((likeness, _),) = index.find(text, "70000", least=0)
    seen, unseen = math.log(705 / 2), math.log(705)
    assert likeness == pytest.approx(3 * seen / (3 * seen + 2 * unseen))


def test_another_answer_or_the_same_language_is_no_translation():
    index = _translations((HOUSE, "70000"))
    assert index.find(HOUSE_ZH, "70001", least=0) == []
    assert index.find(HOUSE, "70000", least=0) == [(0.0, 0)]


def test_common_numbers_and_a_common_answer_find_nothing():
    small = [(f"Tom has 2 pens and buys 3 more at shop {name}. How many are there?", "5") for name in "abcdefgh"]
    assert Translations(small, OTHERS).find("小明有2支笔，又买了3支，现在有多少支？", "5", least=0.5) == []


def test_a_translated_row_is_a_leak_with_its_evidence_where_the_rule_says_so():
    rows = [MeasuredRow("gsm8k", "2", HOUSE, answer="70000")]
    leak = leak_index(rows, Decontamination(translated=0.9), OTHERS).find(HOUSE_ZH, "70000")
    assert leak is not None and (leak.row.id, leak.reason, leak.score) == ("2", "translated", 1.0)
    assert leak_index(rows, Decontamination(), OTHERS).find(HOUSE_ZH, "70000") is None


def test_translations_of_public_sets_are_found_and_other_chinese_rows_are_not(public_data):
    sets = {
        name: problems_from_table(pq.read_table(public_data / f"{name}.parquet"))
        for name in ("gsm8k", "mgsm_zh", "cmath", "math500")
    }
    measured = [*(row for row in sets["gsm8k"] if row.split == "eval"), *sets["math500"]]
    index = Translations([(row.prompt, row.answer) for row in measured], [row.prompt for row in sets["cmath"]])
    found = [bool(index.find(row.prompt, row.answer, least=0.9)) for row in sets["mgsm_zh"]]
    others = [bool(index.find(row.prompt, row.answer, least=0.9)) for row in sets["cmath"]]
    assert sum(found) >= 100 and sum(others) == 0  # of 250 and of 1 098; measured 101 and 0
