"""Text to token ids and back, over the tokenizer files of a model folder.

In: `tokenizer.json`, `tokenizer_config.json` (and `chat_template.jinja` where the template is kept apart), or texts
from which `build_word_tokenizer` makes a small word-level vocabulary. Out: the same files; transformers opens them.

Special tokens are the template's and the pipeline's to set. One that is written in a problem, or by a data set in a solution, is text: it
is cut in two behind its first character and the pieces are encoded apart. Here we depart from transformers, whose template obeys it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

EOS = "<|endoftext|>"
UNKNOWN = "<unk>"
THINKING_END = "</think>"
SPECIAL_TOKENS = (
    EOS,
    UNKNOWN,
    "<role>HUMAN</role>",
    "<role>ASSISTANT</role>",
    "<role>SYSTEM</role>",
    "<think>",
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

_CUT = "\ue000"  # for private use: stands where a text is cut


class Tokenizer:
    """Encodes text, decodes ids, and renders a problem as a prompt."""

    def __init__(self, backend: tokenizers.Tokenizer, *, settings: dict[str, Any]) -> None:
        """Wrap a tokenizer and the contents of its `tokenizer_config.json` (`eos_token`, `chat_template`, ...)."""
        self._backend = backend
        self._settings = settings
        self._template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
            settings["chat_template"]
        )
        self._eos_id = _special_id(backend, settings, "eos_token")
        self._special_tokens = _special_tokens(backend, eos_id=self._eos_id)

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Open the tokenizer of a model folder.

        Raises:
            ValueError: a file is missing or unreadable, or there is no chat template or end token.

        """
        folder = Path(folder)
        path, settings_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
        for needed in (path, settings_path):
            if not needed.is_file():
                raise ValueError(f"{needed} does not exist; a model folder holds its tokenizer files")
        try:
            settings = json.loads(settings_path.read_text(encoding="utf-8"))
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare Exception for a damaged file
            raise ValueError(f"the tokenizer files of {folder} cannot be read: {error}") from error
        template_path = folder / "chat_template.jinja"
        if template_path.is_file():
            settings["chat_template"] = template_path.read_text(encoding="utf-8")
        if not isinstance(settings.get("chat_template"), str):
            raise ValueError(f"{settings_path} has no chat_template; prompts cannot be rendered without one")  # noqa: TRY004 - one error for one bad file
        return cls(backend, settings=settings)

    def save(self, folder: Path | str) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`; the folder is made when missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True) + "\n", encoding="utf-8")
        text = json.dumps(self._settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    @property
    def eos_id(self) -> int:
        """Id of the token that ends a response."""
        return self._eos_id

    @property
    def pad_id(self) -> int:
        """Id that fills rows up; the end token's, as in Ling-lite."""
        return self._eos_id

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
        """Ids of what a model is to say after an opened `<think>`: of the special tokens, only `</think>` is one, others are text."""
        cut = _unused(text)
        return self._encode_cut(self._cut_specials(text, cut, keeps=THINKING_END), cut)

    def _encode_cut(self, text: str, cut: str) -> list[int]:
        return [index for piece in text.split(cut) for index in self.encode(piece)]

    def _cut_specials(self, text: str, cut: str, *, keeps: str = "") -> str:
        """The text with a `cut` behind the first character of each special token."""
        tokens = "|".join(re.escape(token) for token in self._special_tokens if token != keeps)
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
        """Ids of the chat template around one problem, whose text is text, up to and including the opened thinking.

        Raises:
            ValueError: the template of the folder fails.

        """
        cut = _unused(problem)
        messages = [{"role": "user", "content": self._cut_specials(problem, cut)}]
        try:
            text = self._template.render(messages=messages, add_generation_prompt=True, eos_token=EOS)
        except TemplateError as error:
            raise ValueError(f"the chat template cannot render a problem: {error}") from error
        return self._encode_cut(text, cut)


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
    settings = {
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "pad_token": EOS,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
    }
    return Tokenizer(backend, settings=settings)


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


def _special_tokens(backend: tokenizers.Tokenizer, *, eos_id: int) -> list[str]:
    """What the vocabulary marks as special, the end token, and ours where it has them unmarked, as some have `<think>`."""
    marked = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    ours = {token for token in SPECIAL_TOKENS if backend.token_to_id(token) is not None}
    return sorted(marked | ours | {str(backend.id_to_token(eos_id))})


def _special_id(backend: tokenizers.Tokenizer, settings: dict[str, Any], key: str) -> int:
    value = settings.get(key)
    text = value["content"] if isinstance(value, dict) else value
    index = backend.token_to_id(text) if isinstance(text, str) else None
    if index is None:
        raise ValueError(f"tokenizer_config.json: {key} = {text!r} is not a token of tokenizer.json")
    return index
