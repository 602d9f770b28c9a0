"""The chat template of a model folder: which one it is, and the text that it makes of a problem.

In: `chat_template.jinja` and `additional_chat_templates/NAME.jinja` or, where there are none, the key `chat_template` of
`tokenizer_config.json`: one text, or a list of {name, template}. Of several the one named `default` is meant, else the only one. Out: a
`ChatTemplate`, which renders one user's turn as transformers' `apply_chat_template` does: jinja's sandbox with the same tags and
functions, and the same special tokens by name.

Who opens the thinking: a prompt is what the template renders and nothing else, so that whoever opens an export with its template asks
as training did. Where that ends with `<think>`, the response is what follows; where it does not, as with Ring's released template, the
response begins with the tag, in training as in sampling. So the tag stands once in prompt and response together, and the judge takes
what follows `</think>` either way.

A template is rendered once when it is opened. Refused there is one that fails, leaves the problem out, closes the thinking, or asks
for the date, by which the same prompt would be another one tomorrow.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

THINKING_START = "<think>"
THINKING_END = "</think>"
TEMPLATE_FILE = "chat_template.jinja"
TEMPLATES_FOLDER = "additional_chat_templates"
SETTINGS_FILE = "tokenizer_config.json"
_DEFAULT = "default"
_PROBE = "2 + 3 = ?"
_LONGEST = 200_000  # characters that a template may write beside the problem, each time that it names it
_LARGEST_POWER = 64  # exponent


@dataclass(frozen=True, slots=True)
class Chosen:
    """The template of a folder that is used."""

    text: str
    origin: str  # where it stands, for people


def chosen_template(folder: Path, settings: Mapping[str, Any]) -> Chosen:
    """The template that a user's turn is rendered with; `settings` is what `tokenizer_config.json` holds.

    Raises:
        ValueError: there is none, or there are several and none is called `default`; they are named.

    """
    files = _template_files(folder)
    if files:
        return _chosen({name: path.read_text(encoding="utf-8") for name, path in files.items()}, "files of the folder")
    value = settings.get("chat_template")
    if isinstance(value, str):
        return Chosen(value, SETTINGS_FILE)
    if not value:
        raise ValueError(f"{SETTINGS_FILE} has no chat_template; prompts cannot be rendered without one")
    return _chosen(_named(value), SETTINGS_FILE)


def _template_files(folder: Path) -> dict[str, Path]:
    files = {path.stem: path for path in sorted((folder / TEMPLATES_FOLDER).glob("*.jinja"))}
    return files | ({_DEFAULT: folder / TEMPLATE_FILE} if (folder / TEMPLATE_FILE).is_file() else {})


def _named(value: Any) -> dict[str, str]:  # noqa: ANN401 - of a JSON file
    """Name -> template, of a list of {name, template}."""
    try:
        named = {entry["name"]: entry["template"] for entry in value}
    except (TypeError, KeyError) as error:
        raise ValueError(f"{SETTINGS_FILE}: chat_template is neither a text nor a list of name and template") from error
    if not all(isinstance(text, str) for pair in named.items() for text in pair):
        raise ValueError(f"{SETTINGS_FILE}: name and template in the list chat_template must be texts")
    return named


def _chosen(named: Mapping[str, str], where: str) -> Chosen:
    name = _DEFAULT if _DEFAULT in named else next(iter(named)) if len(named) == 1 else None
    if name is None:
        raise ValueError(
            f"{where}: there are the chat templates {', '.join(sorted(named))} and none is called {_DEFAULT!r};"
            f" give the one to use that name"
        )
    if where != SETTINGS_FILE:
        where = TEMPLATE_FILE if name == _DEFAULT else f"{TEMPLATES_FOLDER}/{name}.jinja"
    others = sorted(set(named) - {name})
    return Chosen(named[name], f"{where}, {name!r}" + (f" (not used: {', '.join(others)})" if others else ""))


class ChatTemplate:
    """A template that was tried, and whether it opens the thinking."""

    def __init__(self, text: str, *, special_tokens: Mapping[str, str], origin: str = SETTINGS_FILE) -> None:
        """Compile and try a template; `special_tokens` are those that it may name, as `bos_token`.

        Raises:
            ValueError: it cannot be used; the message says why.

        """
        self.text = text
        self.origin = origin
        self._special_tokens = dict(special_tokens)
        self._pieces = _guarded(lambda: _environment().from_string(text, globals=_FUNCTIONS), origin).generate
        rendered = self.render(_PROBE)
        if _PROBE not in rendered:
            raise ValueError(f"{origin}: the chat template leaves out what the user says: {rendered[-200:]!r}")
        self.opens_thinking = _opens_thinking(rendered.rpartition(_PROBE)[2], origin)

    def render_talk(self, turns: Sequence[Mapping[str, str]]) -> str:
        """The prompt around a talk of `role` and `content`, up to and including the beginning of the assistant's next turn.

        Raises:
            ValueError: the template fails, as where it takes no such role, or writes without end.

        """
        messages = [dict(turn) for turn in turns]
        variables = {"messages": messages, "add_generation_prompt": True, "tools": None, "documents": None}
        longest = _LONGEST + 4 * sum(len(turn["content"]) for turn in turns)
        return _guarded(lambda: _joined(self._pieces(**self._special_tokens, **variables), longest), self.origin)

    def render(self, problem: str) -> str:
        """The prompt around one problem, up to and including the beginning of the assistant's turn. Raises as `render_talk`."""
        return self.render_talk([{"role": "user", "content": problem}])


def _joined(pieces: Iterable[str], longest: int) -> str:
    """Raises TemplateError as soon as there are more characters than `longest`."""
    kept: list[str] = []
    room = longest
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            raise TemplateError(f"it writes more than {longest:,} characters")
        kept.append(piece)
    return "".join(kept)


def _guarded(call: Callable[[], Any], origin: str) -> Any:  # noqa: ANN401 - what the call returns
    try:
        return call()
    except Exception as error:  # a template is code of whoever made the folder: it may raise anything
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{origin}: the chat template cannot render a problem: {said}") from error


def _opens_thinking(behind: str, origin: str) -> bool:
    """Whether the prompt ends in an opened thinking, from what the template writes behind the problem."""
    end = behind.rstrip()
    if end.endswith(THINKING_START):
        return True
    if end.endswith(THINKING_END):
        raise ValueError(
            f"{origin}: the chat template closes the thinking before the model begins ({behind!r}); take a template that does not"
        )
    if behind.rfind(THINKING_START) > behind.rfind(THINKING_END):
        raise ValueError(
            f"{origin}: the chat template begins a thought for the model ({behind!r}); it may end with {THINKING_START} at most"
        )
    return False


# ---------------------------------------------------------------- what transformers offers to templates


class _Generation(Extension):
    """`{% generation %}`, which marks for transformers what the assistant says, and changes no text."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja

    def parse(self, parser: Parser) -> nodes.Node:
        """The body as the block of a call, which has a scope of its own, as in transformers."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which a text or list cannot be multiplied to any length, nor a number raised to any power."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - a template's values
        """The value of an operation. Raises TemplateError for one that is too large."""
        if operator == "**" and isinstance(right, int | float) and abs(right) > _LARGEST_POWER:
            raise TemplateError(f"it raises to the power {right:g}, at most {_LARGEST_POWER} is computed")
        for repeated, times in ((left, right), (right, left)):
            if isinstance(repeated, str | list | tuple) and isinstance(times, int) and len(repeated) * times > _LONGEST:
                raise TemplateError(
                    f"it repeats {len(repeated)} characters or items {times:,} times, at most {_LONGEST:,} are made"
                )
        return super().call_binop(context, operator, left, right)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    return environment


def _to_json(
    value: Any,  # noqa: ANN401 - any JSON value
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _refuse_date(format_: str) -> None:
    raise TemplateError(
        f"it asks for the date (strftime_now({format_!r})), so that the same problem would be another prompt tomorrow;"
        " write a date into the template in place of the call"
    )


_FUNCTIONS = {"raise_exception": _raise_exception, "strftime_now": _refuse_date}
