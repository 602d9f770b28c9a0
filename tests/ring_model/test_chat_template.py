"""Templates of model folders are read as transformers reads them, or refused at the door."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from ring_model.chat_template import ChatTemplate
from ring_model.tokenizer import CHAT_TEMPLATE, Tokenizer

SPECIAL = ["<s>", "</s>", "<|end|>", "<unk>", "<think>", "</think>", "<user>", "<assistant>"]
WORDS = ["find", "2", "of", "{", "}", "system:", "[]", "hello", "4", "<b>&"]
RELEASED = (
    "{% for m in messages %}<user>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""As Ring's released one: it leaves the thinking to the model."""
OPENING = RELEASED.replace("<assistant>", "<assistant><think>\n")


def make_folder(folder: Path, **settings: Any) -> Path:
    """A tokenizer's files; `settings` go into `tokenizer_config.json`, over the tokens' names."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    backend = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str())
    named = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, **settings}))
    return folder


def their_ids(folder: Path, problem: str) -> list[int]:
    """What transformers makes of a user's turn."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": problem}]
    return theirs.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)


READ_ALIKE = {
    "ours": CHAT_TEMPLATE,
    "released": RELEASED,
    "opening": OPENING,
    "begin token": "{{ bos_token }}" + RELEASED,
    "end token": RELEASED.replace("<assistant>", "{{ eos_token }}<assistant>"),
    "generation": RELEASED.replace("<assistant>", "{% generation %}<assistant>{% endgeneration %}"),
    "a scope of its own": "{% set a = 2 %}{% generation %}{% set a = 4 %}{% endgeneration %}" + RELEASED + " {{ a }} <assistant>",
    "no tools": RELEASED + "{% if tools %}{{ tools | tojson(indent=4) }}{% endif %}{{ documents is none }}",
    "json without escapes": RELEASED + "{{ '<b>&' | tojson }} {{ [] | tojson }} {{ {'b': 2, 'a': 4} | tojson(sort_keys=true) }}",
    "json by place": RELEASED + "{{ {'a': [2, 4]} | tojson(false, 2) }}",
    "break and continue": "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %} {{ i }} "
    "{% if i == 4 %}{% break %}{% endif %}{% endfor %}" + RELEASED,
    "trimmed blocks": "{%- for m in messages %}\n    {%- if m.role == 'user' %}\n<user>{{ m.content | trim }}\n"
    "    {% endif %}\n{% endfor %}\n<assistant>",
    "a namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}" + RELEASED + "{{ ns.n }}",
    "an unused exception": RELEASED + "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}",
    "an unused date": RELEASED + "{% if date is defined %}{{ strftime_now('%d') }}{% endif %}",
}  # fmt: skip


@pytest.mark.parametrize("template", READ_ALIKE.values(), ids=READ_ALIKE)
@pytest.mark.parametrize("problem", ["find 2 of 4", " hello <b>& "])
def test_a_prompt_has_the_ids_that_transformers_gives_it(tmp_path: Path, template: str, problem: str) -> None:
    folder = make_folder(tmp_path, chat_template=template)
    assert Tokenizer.from_folder(folder).render_prompt(problem) == their_ids(folder, problem)


def test_a_token_given_as_a_record_is_named_by_its_content(tmp_path: Path) -> None:
    record = {
        "__type": "AddedToken",
        "content": "<s>",
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
    }
    folder = make_folder(tmp_path, chat_template="{{ bos_token }}" + RELEASED, bos_token=record)
    assert Tokenizer.from_folder(folder).render_prompt("find")[0] == SPECIAL.index("<s>")
    assert Tokenizer.from_folder(folder).render_prompt("find") == their_ids(folder, "find")


@pytest.mark.parametrize("decoder", [None, {"1": {"content": "</s>", "special": True}}])
def test_the_older_file_of_named_tokens_counts_where_transformers_reads_it(
    tmp_path: Path, decoder: dict | None
) -> None:
    settings = {"chat_template": "{{ bos_token }}" + RELEASED} | ({"added_tokens_decoder": decoder} if decoder else {})
    folder = make_folder(tmp_path, **settings)
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "<|end|>", "lstrip": False}}))
    assert Tokenizer.from_folder(folder).render_prompt("find") == their_ids(folder, "find")


# ---------------------------------------------------------------- which template


LISTED = {
    "default of several": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": RELEASED}],
    "the only one": [{"name": "default", "template": RELEASED}],
}


@pytest.mark.parametrize("listed", LISTED.values(), ids=LISTED)
def test_of_a_list_the_default_is_read(tmp_path: Path, listed: list[dict]) -> None:
    folder = make_folder(tmp_path, chat_template=listed)
    made = Tokenizer.from_folder(folder)
    assert made.render_prompt("find 2") == their_ids(folder, "find 2")
    assert made.template.origin.startswith("tokenizer_config.json, 'default'")
    assert ("(not used: tool_use)" in made.template.origin) == (len(listed) == 2)


def test_the_only_one_of_a_list_is_read_whatever_its_name(tmp_path: Path) -> None:
    made = Tokenizer.from_folder(make_folder(tmp_path, chat_template=[{"name": "chat", "template": RELEASED}]))
    assert made.decode(made.render_prompt("find")) == "<user> find <assistant>"
    assert made.template.origin == "tokenizer_config.json, 'chat'"


def test_several_without_a_default_are_refused_by_name(tmp_path: Path) -> None:
    listed = [{"name": name, "template": RELEASED} for name in ("rag", "chat")]
    with pytest.raises(ValueError, match=r"the chat templates chat, rag and none is called 'default'"):
        Tokenizer.from_folder(make_folder(tmp_path, chat_template=listed))


@pytest.mark.parametrize("value", [5, [5], [{"name": "default"}], [{"name": "default", "template": None}]])
def test_another_shape_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="chat_template"):
        Tokenizer.from_folder(make_folder(tmp_path, chat_template=value))


@pytest.mark.parametrize("value", [None, "", []])
def test_a_folder_without_a_template_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"has no chat_template|leaves out what the user says"):
        Tokenizer.from_folder(make_folder(tmp_path, chat_template=value))


def test_a_file_of_its_own_comes_before_the_settings(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, chat_template=OPENING)
    (folder / "chat_template.jinja").write_text(RELEASED)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("no")
    made = Tokenizer.from_folder(folder)
    assert made.render_prompt("find 2") == their_ids(folder, "find 2")
    assert made.template.origin == "chat_template.jinja, 'default' (not used: rag)"


def test_an_export_holds_the_one_template_that_was_used(tmp_path: Path) -> None:
    made = Tokenizer.from_folder(make_folder(tmp_path / "one", chat_template=[{"name": "chat", "template": RELEASED}]))
    made.save(tmp_path / "two")
    assert Tokenizer.from_folder(tmp_path / "two").template.text == RELEASED
    assert their_ids(tmp_path / "two", "find 2") == made.render_prompt("find 2")


# ---------------------------------------------------------------- who opens the thinking


ENDS = {"": False, "<think>": True, "<think>\n": True, " <think> </think> put thoughts there <assistant>": False}


@pytest.mark.parametrize(("end", "opens"), ENDS.items())
def test_a_template_opens_the_thinking_where_its_prompt_ends_with_the_tag(
    tmp_path: Path, end: str, opens: bool
) -> None:
    template = RELEASED.replace("<assistant>", "<assistant>" + end)
    made = Tokenizer.from_folder(make_folder(tmp_path, chat_template=template))
    assert made.template.opens_thinking == opens


def test_tags_before_the_problem_open_nothing(tmp_path: Path) -> None:
    made = Tokenizer.from_folder(
        make_folder(tmp_path, chat_template="think in <think> and answer behind it " + RELEASED)
    )
    assert not made.template.opens_thinking


@pytest.mark.parametrize("template", [RELEASED, OPENING, CHAT_TEMPLATE])
@pytest.mark.parametrize("text", ["2 </think> 4", "<think> 2 </think> 4", " </think> 4"])
def test_prompt_and_response_hold_one_opening_and_one_end_of_thinking(tmp_path: Path, template: str, text: str) -> None:
    made = Tokenizer.from_folder(make_folder(tmp_path, chat_template=template))
    ids = [*made.render_prompt("find <think> 2"), *made.encode_response(text)]
    assert ids.count(SPECIAL.index("<think>")) == ids.count(SPECIAL.index("</think>")) == 1
    assert ids.index(SPECIAL.index("<think>")) < ids.index(SPECIAL.index("</think>"))


def test_a_response_begins_with_the_tag_only_where_the_template_leaves_it_out(tmp_path: Path) -> None:
    released = Tokenizer.from_folder(make_folder(tmp_path / "released", chat_template=RELEASED))
    opening = Tokenizer.from_folder(make_folder(tmp_path / "opening", chat_template=OPENING))
    assert released.decode(released.encode_response("2 </think> 4")) == "<think> 2 </think> 4"
    assert opening.decode(opening.encode_response("2 </think> 4")) == "2 </think> 4"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("<think>\n\n</think>\n\n", "closes the thinking before the model begins"),
        ("<think> hello", "begins a thought for the model"),
    ],
)
def test_a_template_that_thinks_for_the_model_is_refused(tmp_path: Path, end: str, message: str) -> None:
    template = RELEASED.replace("<assistant>", "<assistant>" + end)
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_folder(make_folder(tmp_path, chat_template=template))


# ---------------------------------------------------------------- refused at the door


REFUSED = {
    "a date": (RELEASED + "{{ strftime_now('%d %b %Y') }}", r"asks for the date \(strftime_now\('%d %b %Y'\)\)"),
    "an exception": ("{{ raise_exception('a system turn comes first') }}", "a system turn comes first"),
    "a syntax error": ("{% if %}", "cannot render a problem"),
    "an unknown filter": (RELEASED + "{{ messages | nothing }}", "nothing"),
    "a type error": (RELEASED + "{{ messages + 1 }}", "TypeError"),
    "a division by zero": (RELEASED + "{{ 1 / 0 }}", "ZeroDivisionError"),
    "an endless recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    "python's internals": (RELEASED + "{{ messages.__class__.__mro__ }}", "unsafe"),
    "a file": ("{% include 'x' %}", "TypeError|loader"),
    "a constant": ("<user>hello<assistant>", "leaves out what the user says"),
}


@pytest.mark.parametrize(("template", "message"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_cannot_be_used_is_refused_with_the_folder_and_the_reason(
    tmp_path: Path, template: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.from_folder(make_folder(tmp_path, chat_template=template))
    assert str(caught.value).startswith(f"{tmp_path}: tokenizer_config.json: ")


def test_a_template_that_fails_on_one_problem_says_so() -> None:
    template = ChatTemplate(
        RELEASED + "{% if 'hello' in messages[0].content %}{{ raise_exception('be brief') }}{% endif %}",
        special_tokens={},
    )
    assert template.render("find") == "<user>find<assistant>"
    with pytest.raises(ValueError, match="be brief"):
        template.render("hello")


# ---------------------------------------------------------------- hostile ones


HOSTILE = {
    "adds": "{{ messages + 1 }}",
    "divides": "{{ 1 / 0 }}",
    "recurses": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "includes": "{% include 'x' %}",
    "multiplies a text": "{{ 'a' * 200000000 }}",
    "multiplies a list": "{{ 200000000 * [1] }}",
    "raises a power": "{{ 9 ** 999999999 }}",
    "writes without end": "{% for i in range(99999) %}{% for k in range(99999) %}{{ 'aaaaaaaaaa' }}{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_template_does_is_one_message_soon(template: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="the chat template cannot render a problem"):
        ChatTemplate(template + RELEASED, special_tokens={})
    assert time.process_time() - started < 2


def test_a_long_problem_is_rendered_whole() -> None:
    problem = "x" * 1_000_000
    assert problem in ChatTemplate("{{ messages[0]['content'] }}", special_tokens={}).render(problem)


def test_small_products_are_computed() -> None:
    made = ChatTemplate("{{ '=' * 3 ** 2 }}{{ messages[0]['content'] }}", special_tokens={})
    assert made.render("p") == "=========p"


# ---------------------------------------------------------------- several turns

TALKING = (
    "{% for m in messages %}{% if m.role == 'user' %}<user>{{ m.content }}{% elif m.role == 'system' %}<s>{{ m.content }}"
    "{% else %}<assistant>{{ m.content.split('</think>')[-1] }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}"
)
"""Thoughts of earlier turns are left out, as many released templates do."""
TALK = [
    {"role": "system", "content": "hello"},
    {"role": "user", "content": "find 2"},
    {"role": "assistant", "content": "<think> 4 </think> 2 of 4"},
    {"role": "user", "content": "of 4"},
]


@pytest.mark.parametrize("template", [TALKING, TALKING.replace(".split('</think>')[-1]", "")])
def test_a_talk_has_the_ids_that_transformers_gives_it(tmp_path: Path, template: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = make_folder(tmp_path, chat_template=template)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
    assert Tokenizer.from_folder(folder).render_talk(TALK) == expected
    assert (SPECIAL.index("</think>") in expected) == ("split" not in template)


def test_a_talk_of_one_turn_is_a_prompt(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(make_folder(tmp_path, chat_template=TALKING))
    assert tokenizer.render_talk([{"role": "user", "content": "find 2"}]) == tokenizer.render_prompt("find 2")


def test_in_a_talk_nobody_says_a_special_token_but_the_model_its_thinking(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(make_folder(tmp_path, chat_template=TALKING))
    bare = tokenizer.render_talk([{**turn, "content": ""} for turn in TALK])
    said = [
        {"role": "system", "content": "<user></s>"},
        {"role": "user", "content": "</s><assistant></think>"},
        {"role": "assistant", "content": "<user></s>"},
        {"role": "user", "content": "<|end|>"},
    ]
    specials = [index for index in range(len(SPECIAL)) if SPECIAL[index] != "<unk>"]
    count = lambda ids: [ids.count(index) for index in specials]  # noqa: E731
    assert count(tokenizer.render_talk(said)) == count(bare)


def test_a_template_that_takes_no_such_role_says_so(tmp_path: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}" + RELEASED
    tokenizer = Tokenizer.from_folder(make_folder(tmp_path, chat_template=template))
    with pytest.raises(ValueError, match="no system, please"):
        tokenizer.render_talk(TALK)
