"""Text to token ids and back, over the tokenizer files of a model folder.

In: `tokenizer.json`, `tokenizer_config.json` and the template (see `chat_template`), the end tokens of `generation_config.json` or
`config.json`, or texts from which `build_word_tokenizer` makes a small word-level vocabulary and `build_bpe_tokenizer` one of pieces of
bytes. Out: `tokenizer.json` and
`tokenizer_config.json` with the one template that is used; transformers opens them.

Every end token ends a response: the `eos_token` of `tokenizer_config.json`, and the ids that `end_ids_of` finds. The first of them, the
`eos_token` where there is one, ends the responses that are trained on.

Special tokens are the template's and the pipeline's to set. One that is written in a problem, or by a data set in a solution, is text: it
is cut in two behind its first character and the pieces are encoded apart. Here we depart from transformers, whose template obeys it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import AddedToken
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Digits, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

from ring_model.chat_template import SETTINGS_FILE, THINKING_END, THINKING_START, ChatTemplate, chosen_template
from ring_model.configuration import end_ids_of

EOS = "<|endoftext|>"
UNKNOWN = "<unk>"
SPECIAL_TOKENS = (
    EOS,
    UNKNOWN,
    "<role>HUMAN</role>",
    "<role>ASSISTANT</role>",
    "<role>SYSTEM</role>",
    THINKING_START,
    THINKING_END,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<role>HUMAN</role>{{ message['content'] }}"
    "{% elif message['role'] == 'system' %}<role>SYSTEM</role>{{ message['content'] }}"
    "{% else %}<role>ASSISTANT</role>{{ message['content'] }}<|endoftext|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<role>ASSISTANT</role><think>{% endif %}"
)
"""Ling-lite's template, with the thinking opened for the model."""

_SETTINGS = {
    "chat_template": CHAT_TEMPLATE,
    "clean_up_tokenization_spaces": False,
    "eos_token": EOS,
    "pad_token": EOS,
    "tokenizer_class": "PreTrainedTokenizerFast",
}

_CUT = "\ue000"  # for private use: stands where a text is cut


class Tokenizer:
    """Encodes text, decodes ids, and renders a problem as a prompt."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        settings: dict[str, Any],
        more_end_ids: Sequence[int] = (),
        template_origin: str = SETTINGS_FILE,
    ) -> None:
        """Wrap a tokenizer and the contents of its `tokenizer_config.json` (`eos_token`, `chat_template`, ...).

        Raises:
            ValueError: the template cannot be used, there is no end token, or one is not in the vocabulary.

        """
        self._backend = backend
        self._settings = settings
        self._template = ChatTemplate(
            settings["chat_template"], special_tokens=_named_tokens(settings), origin=template_origin
        )
        self._end_ids = _end_ids(backend, settings, more_end_ids)
        self._special_tokens = _special_tokens(backend, settings, end_ids=self._end_ids)

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Open the tokenizer of a model folder.

        Raises:
            ValueError: a file is missing or unreadable, there is no end token, or no chat template that can be used.

        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        for needed in (path, folder / SETTINGS_FILE):
            if not needed.is_file():
                raise ValueError(f"{needed} does not exist; a model folder holds its tokenizer files")
        try:
            settings = _read_settings(folder)
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare Exception for a damaged file
            raise ValueError(f"the tokenizer files of {folder} cannot be read: {error}") from error
        try:
            template = chosen_template(folder, settings)
            settings["chat_template"] = template.text
            return cls(backend, settings=settings, more_end_ids=end_ids_of(folder), template_origin=template.origin)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error

    def save(self, folder: Path | str) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`; the folder is made when missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True) + "\n", encoding="utf-8")
        text = json.dumps(self._settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    @property
    def eos_id(self) -> int:
        """Id of the token that ends the responses that are trained on."""
        return self._end_ids[0]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids each of which ends a response; `eos_id` is the first."""
        return self._end_ids

    @property
    def template(self) -> ChatTemplate:
        """What prompts are rendered with."""
        return self._template

    @property
    def pad_id(self) -> int:
        """Id that fills rows up; the end token's, as in Ling-lite."""
        return self.eos_id

    @property
    def vocab_size(self) -> int:
        """Number of ids: one more than the largest."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def token_id(self, token: str) -> int | None:
        """Id of one token given by its exact text, None when it is not in the vocabulary."""
        return self._backend.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing is added before or after it. Special tokens written in the text become their ids."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_response(self, text: str) -> list[int]:
        """Ids of what a model is to say, from what follows an opened `<think>`; no end token is added.

        `<think>` comes before it where the template does not open the thinking. Of the special tokens in the text only `</think>` is
        one, others are text.
        """
        cut = _unused(text)
        opening = "" if self._template.opens_thinking else THINKING_START
        return self._encode_cut(opening + self._cut_specials(text, cut, keeps=(THINKING_END,)), cut)

    def _encode_cut(self, text: str, cut: str) -> list[int]:
        return [index for piece in text.split(cut) for index in self.encode(piece)]

    def _cut_specials(self, text: str, cut: str, *, keeps: Sequence[str] = ()) -> str:
        """The text with a `cut` behind the first character of each special token."""
        tokens = "|".join(re.escape(token) for token in self._special_tokens if token not in keeps)
        return re.sub(f"(?=(?:{tokens})).", lambda first: first[0] + cut, text, flags=re.DOTALL)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens included.

        A word-level vocabulary joins its tokens by one space, and by none next to a token that itself starts or ends
        with white space there (a phrase).

        Raises:
            ValueError: an id has no token.

        """
        if self._backend.decoder is not None:
            return self._backend.decode(list(ids), skip_special_tokens=False)
        return _join([self._token(index) for index in ids])

    def _token(self, index: int) -> str:
        token = self._backend.id_to_token(index)
        if token is None:
            raise ValueError(f"id {index} has no token; the vocabulary has {self.vocab_size}")
        return token

    def render_prompt(self, problem: str) -> list[int]:
        """Ids of the chat template around one problem, whose text is text, up to where the response begins.

        Raises:
            ValueError: the template of the folder fails.

        """
        cut = _unused(problem)
        return self._encode_cut(self._template.render(self._cut_specials(problem, cut)), cut)

    def render_talk(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        """Ids of the chat template around a talk of `role` and `content`, up to where the assistant's next turn begins.

        What is said is text, as in `render_prompt`; in turns of the assistant the tags of thinking keep their meaning.

        Raises:
            ValueError: the template of the folder fails.

        """
        cut = _unused("".join(turn["content"] for turn in turns))
        tags = (THINKING_START, THINKING_END)
        said = [
            {
                **turn,
                "content": self._cut_specials(turn["content"], cut, keeps=tags if turn["role"] == "assistant" else ()),
            }
            for turn in turns
        ]
        return self._encode_cut(self._template.render_talk(said), cut)


def build_word_tokenizer(texts: Iterable[str], *, phrases: Sequence[str] = ()) -> Tokenizer:
    """Make a vocabulary of the white-space separated words of `texts`, one id each.

    Ids in order: the special tokens, the phrases as given, then integers by value and other words by code point, so
    the order of the texts does not matter. A phrase (it may hold spaces and line breaks) is one token wherever it
    occurs; a line break outside of phrases is a token if any text has one. Unknown words become `<unk>`.
    """
    kept_phrases = list(dict.fromkeys(phrases))
    if any(not phrase.strip(" ") or phrase in SPECIAL_TOKENS for phrase in kept_phrases):
        raise ValueError(f"phrases must hold more than spaces and not be special tokens: {kept_phrases}")
    whole = sorted((*SPECIAL_TOKENS, *kept_phrases), key=len, reverse=True)
    split = re.compile("|".join(re.escape(token) for token in whole))
    rest = [piece for text in texts for piece in split.split(text)]
    if "\n" not in kept_phrases and any("\n" in piece for piece in rest):
        kept_phrases.append("\n")
    words = {word for piece in rest for word in piece.split()} - set(SPECIAL_TOKENS) - set(kept_phrases)
    vocabulary = [*SPECIAL_TOKENS, *kept_phrases, *sorted(words, key=_word_order)]
    backend = tokenizers.Tokenizer(
        WordLevel({token: index for index, token in enumerate(vocabulary)}, unk_token=UNKNOWN)
    )
    backend.pre_tokenizer = WhitespaceSplit()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    backend.add_tokens([AddedToken(phrase, normalized=False) for phrase in kept_phrases])
    return Tokenizer(backend, settings={**_SETTINGS, "unk_token": UNKNOWN})


def build_bpe_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Train byte-level BPE of at most `vocab_size` entries: the special tokens, all 256 bytes, and pairs that often stand together.

    Any text can be encoded, and decodes to itself. A digit is always an entry of its own. The same texts in any order give the same
    vocabulary.

    Raises:
        ValueError: `vocab_size` has no room for the special tokens and the bytes.

    """
    specials = [token for token in SPECIAL_TOKENS if token != UNKNOWN]
    alphabet = ByteLevel.alphabet()
    if vocab_size < len(specials) + len(alphabet):
        raise ValueError(
            f"vocab_size = {vocab_size} must be at least {len(specials) + len(alphabet)}: {len(specials)} special tokens"
            f" and {len(alphabet)} bytes"
        )
    backend = tokenizers.Tokenizer(BPE())
    backend.pre_tokenizer = Steps([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=specials, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in specials])
    return Tokenizer(backend, settings=dict(_SETTINGS))


def _word_order(word: str) -> tuple[int, int, str]:
    return (0, int(word), word) if re.fullmatch(r"-?[0-9]+", word) else (1, 0, word)


def _join(tokens: Sequence[str]) -> str:
    pieces: list[str] = []
    for token in tokens:
        if pieces and not pieces[-1][-1].isspace() and not token[0].isspace():
            pieces.append(" ")
        pieces.append(token)
    return "".join(pieces)


def _unused(text: str) -> str:
    """A mark that does not stand in the text."""
    return _CUT * (1 + max(map(len, re.findall(f"{_CUT}+", text)), default=0))


def _special_tokens(backend: tokenizers.Tokenizer, settings: Mapping[str, Any], *, end_ids: Sequence[int]) -> list[str]:
    """What the vocabulary marks as special, the `eos_token`, ours and end tokens where it has them unmarked, as some have `<think>`.

    An end token of the model that is no added one, but a piece of plain text, is none: words of a problem would be cut at it.
    """
    added = backend.get_added_tokens_decoder()
    marked = {token.content for index, token in added.items() if token.special or index in end_ids}
    ours = {token for token in SPECIAL_TOKENS if backend.token_to_id(token) is not None}
    named = {token for name, token in _named_tokens(settings).items() if name == "eos_token"}
    return sorted(marked | ours | named)


def _end_ids(backend: tokenizers.Tokenizer, settings: Mapping[str, Any], more: Sequence[int]) -> tuple[int, ...]:
    """The `eos_token` of the settings, then those of the model; each once."""
    named = _named_tokens(settings).get("eos_token")
    own = [] if named is None else [_id_of(backend, named)]
    if unknown := [index for index in more if backend.id_to_token(index) is None]:
        raise ValueError(f"eos_token_id = {unknown[0]} of the model has no token in tokenizer.json")
    if not own and not more:
        raise ValueError(
            f"no end token: {SETTINGS_FILE} has no eos_token, and neither generation_config.json nor config.json an eos_token_id"
        )
    return tuple(dict.fromkeys([*own, *more]))


def _id_of(backend: tokenizers.Tokenizer, token: str) -> int:
    index = backend.token_to_id(token)
    if index is None:
        raise ValueError(f"{SETTINGS_FILE}: eos_token = {token!r} is not a token of tokenizer.json")
    return index


def _named_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token`, `eos_token` and the like by name, as templates write them; each is a text, or a record with its `content`."""
    found = {name: value for name, value in settings.items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _read_settings(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json` and, where transformers reads it, what `special_tokens_map.json` names over it."""
    settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise TypeError(f"{SETTINGS_FILE} is not a JSON object")
    named = folder / "special_tokens_map.json"
    if "added_tokens_decoder" in settings or not named.is_file():
        return settings
    return settings | _named_tokens(json.loads(named.read_text(encoding="utf-8")))
