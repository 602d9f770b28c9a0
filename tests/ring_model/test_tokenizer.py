"""Text goes to ids and comes back, and transformers opens the same files."""

from pathlib import Path

import pytest

from ring_model.tokenizer import SPECIAL_TOKENS, Tokenizer, build_word_tokenizer

SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
TEXTS = ["compute mod 7 : 6 * 2 = 12 = 5 \\boxed{ 3 }", "find power : mass = 10 kg", "-4 200 19"]


def tokenizer() -> Tokenizer:
    return build_word_tokenizer(TEXTS, phrases=[SUFFIX])


@pytest.mark.parametrize(
    "text",
    [
        "compute mod 7 : 6 * 2",
        "compute 7" + SUFFIX,
        "6 * 2 = 12 </think> \\boxed{ 3 } <|endoftext|>",
        "",
        "<think> 5 </think>",
    ],
)
def test_decode_undoes_encode_on_canonical_text(text: str) -> None:
    made = tokenizer()
    assert made.decode(made.encode(text)) == text


def test_ids_are_specials_then_phrases_then_integers_by_value_then_words() -> None:
    made = tokenizer()
    tokens = [made.decode([index]) for index in range(made.vocab_size)]
    assert tokens[: len(SPECIAL_TOKENS)] == list(SPECIAL_TOKENS)
    assert tokens[len(SPECIAL_TOKENS)] == SUFFIX
    assert tokens[len(SPECIAL_TOKENS) + 1 :][:10] == ["-4", "2", "3", "5", "6", "7", "10", "12", "19", "200"]
    assert tokens[len(SPECIAL_TOKENS) + 11 :] == sorted(tokens[len(SPECIAL_TOKENS) + 11 :])


def test_every_id_has_a_token_and_every_token_is_one_id() -> None:
    made = tokenizer()
    for index in range(made.vocab_size):
        assert made.encode(made.decode([index])) == [index]
    with pytest.raises(ValueError, match="has no token"):
        made.decode([made.vocab_size])


def test_the_order_of_the_texts_changes_nothing(tmp_path: Path) -> None:
    build_word_tokenizer(TEXTS, phrases=[SUFFIX]).save(tmp_path / "one")
    build_word_tokenizer(TEXTS[::-1], phrases=[SUFFIX]).save(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_unknown_word_becomes_unk() -> None:
    made = tokenizer()
    assert made.decode(made.encode("compute nonsense 7")) == "compute <unk> 7"


def test_line_breaks_of_the_texts_survive() -> None:
    made = build_word_tokenizer(["a b\nc", "c a"])
    assert made.decode(made.encode("a\nb c\n\na")) == "a\nb c\n\na"


def test_prompt_is_ling_lites_template_with_thinking_open() -> None:
    made = tokenizer()
    prompt = made.render_prompt("compute mod 7" + SUFFIX)
    tokens = [made.decode([index]) for index in prompt]
    assert tokens == ["<role>HUMAN</role>", "compute", "mod", "7", SUFFIX, "<role>ASSISTANT</role>", "<think>"]
    assert made.decode([made.eos_id]) == "<|endoftext|>"
    assert made.pad_id == made.eos_id


def test_transformers_opens_the_saved_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    made = tokenizer()
    made.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = theirs.apply_chat_template(
        [{"role": "user", "content": "compute 7" + SUFFIX}], add_generation_prompt=True, return_dict=False
    )
    assert ids == made.render_prompt("compute 7" + SUFFIX)
    assert (theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (made.eos_id, made.eos_id, made.vocab_size)


def test_saved_folder_reads_back(tmp_path: Path) -> None:
    made = tokenizer()
    made.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    text = "6 * 2 </think>"
    assert again.encode(text) == made.encode(text)
    assert again.decode(again.encode(text)) == text
    assert (again.eos_id, again.vocab_size) == (made.eos_id, made.vocab_size)


def test_a_missing_file_and_a_missing_template_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json does not exist"):
        Tokenizer.from_folder(tmp_path)
    tokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="chat_template"):
        Tokenizer.from_folder(tmp_path)


def test_a_phrase_of_spaces_is_refused() -> None:
    with pytest.raises(ValueError, match="phrases"):
        build_word_tokenizer(["a"], phrases=[" "])
