"""Two processes that use each other's objects: a test, and the answer that it tests.

A message is a JSON text behind its length. A request names an operation and an object of the other side; the reply holds its value or
what it raised. Plain values travel as copies (`tagged`); what is not plain stays where it is, and the other side gets a stand-in, whose
class is made here after a description of the object's class. A list or dict that the other side changes is changed here as well.

While one side waits for a reply it serves requests of the other, as a callback makes them. What a test serves is guarded: an answer may
call what it was given and read its public attributes, and nothing behind them.
"""

import builtins
import importlib
import json
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from data.sandbox import tagged

MAX_MESSAGE_BYTES = 16_000_000
MAX_TEXT = 10_000  # characters of what was printed during a request, or of an exception's text
_LENGTH_BYTES = 4

_UNARY = "neg pos abs invert int float complex index round trunc floor ceil len bool str repr iter next reversed hash enter aenter await"
_BINARY = "add sub mul truediv floordiv mod divmod pow matmul and or xor lshift rshift"
_ORDER = ("__lt__", "__le__", "__gt__", "__ge__")
ARITHMETIC = tuple(f"__{side}{name}__" for name in _BINARY.split() for side in ("", "r", "i"))
DECIDING = (
    "__eq__",
    "__ne__",
    *_ORDER,
    "__hash__",
    "__contains__",
    *ARITHMETIC,
)  # operators that may see what is expected
ASKING = (
    *(f"__{name}__" for name in _UNARY.split() if name != "hash"),
    *("__call__", "__getitem__", "__setitem__", "__delitem__", "__exit__", "__format__"),
)
OPERATORS = frozenset((*DECIDING, *ASKING))
_GUARDED = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    types.GeneratorType,
    type,
)


class LostError(BaseException):
    """The other process is gone: no `except Exception` of a test may take it for the answer's."""


class UnreadableError(Exception):
    """The other process sent what is no value."""


class Endpoint:
    """One end of the connection.

    `local_class` finds a class of this side by its name, so that a stand-in can be an instance of it; `operators` are the names of
    the other side's classes whose operators may decide; `is_guarded` is true where an answer is at the other end.
    """

    def __init__(
        self,
        fd: int,
        *,
        local_class: Callable[[str], type | None],
        operators: Sequence[str] = (),
        is_guarded: bool,
    ) -> None:
        self.operators = frozenset(operators)
        self.operator_decided = False  # an operator of a class of the answer's decided something
        self.num_requests = 0
        self.around: Callable[[Callable[[], object]], tuple[object, str]] = lambda work: (work(), "")
        self._fd = fd
        self._local_class = local_class
        self._is_guarded = is_guarded
        self._objects: list[object] = []  # of this side, by their numbers
        self._numbers: dict[int, int] = {}  # id of an object: its number
        self._described: set[int] = set()  # numbers of classes that the other side knows
        self._new: set[int] = set()  # that it will know by the next message
        self._stand_ins: dict[int, object] = {}  # of the other side, by their numbers
        self._reader = tagged.Reader(tagged.make, _others_of(self))

    # ------------------------------------------------------------ messages

    def send(self, message: object) -> None:
        text = json.dumps(message).encode()
        try:
            _write_all(self._fd, len(text).to_bytes(_LENGTH_BYTES, "big") + text)
        except OSError:
            raise LostError from None
        self._described |= self._new
        self._new.clear()

    def receive(self) -> Any:  # noqa: ANN401  parsed JSON
        """The next message. Raises LostError at the end, UnreadableError for what is none."""
        length = int.from_bytes(_read_all(self._fd, _LENGTH_BYTES), "big")
        if length > MAX_MESSAGE_BYTES:
            raise LostError
        text = _read_all(self._fd, length)
        try:
            text = text.decode()
            if tagged.count_nodes(text) > tagged.MAX_NODES:
                raise UnreadableError
            return json.loads(text)
        except (ValueError, RecursionError):
            raise UnreadableError from None

    # ------------------------------------------------------------ asking

    def request(self, operation: str, target: object, /, *args: object, **keywords: object) -> Any:  # noqa: ANN401  any value
        """The value of an operation on an object of the other side; raises what it raised there."""
        self.num_requests += 1
        self.send(
            {
                "ask": operation,
                "of": self.encode(target),
                "args": self.encode(list(args)),
                "keywords": self.encode(keywords),
            }
        )
        while "ask" in (message := _dictionary(self.receive())):
            self._answer(message)
        return self._reply(message, [*args, *keywords.values()])

    def _reply(self, message: dict[str, Any], given: Sequence[object]) -> Any:  # noqa: ANN401  any value
        try:
            printed = message.get("printed", "")
            value = self.decode(message.get("value"))
            raised = self.decode(message["raised"]) if "raised" in message else None
            changed = [(given[int(place)], self.decode(new)) for place, new in message.get("changed", {}).items()]
        except RecursionError:
            raise
        except Exception as error:  # whatever is wrong with what the other side wrote
            raise UnreadableError(type(error).__name__) from None
        for old, new in changed:
            _update(old, new)
        if type(printed) is str and printed:
            print(printed, end="")
        if raised is not None:
            raise raised if isinstance(raised, BaseException) else UnreadableError("no exception")
        return value

    # ------------------------------------------------------------ serving

    def serve(self) -> None:
        """Answer requests until the other side is gone."""
        while True:
            self._answer(_dictionary(self.receive()))

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            target, args, keywords = (self.decode(message[name]) for name in ("of", "args", "keywords"))
            given = [*args, *keywords.values()]
            before = [_shape(value) for value in given]
            value, printed = self.around(lambda: self._operate(message["ask"], target, args, keywords))
            reply: dict[str, object] = {"value": self.encode(value)}
            changed = [place for place, old in enumerate(before) if old != _shape(given[place])]
            if changed:
                reply["changed"] = {str(place): self.encode(given[place]) for place in changed}
        except LostError:
            raise
        except BaseException as error:  # the other side's to handle
            reply, printed = {"raised": self._raised(error)}, ""
        if printed:
            reply["printed"] = printed[:MAX_TEXT]
        self.send(reply)

    def _operate(self, operation: str, target: Any, args: list[Any], keywords: dict[str, Any]) -> object:  # noqa: ANN401
        if self._is_guarded:
            _guard(operation, target, args)
        if operation == "call":
            return target(*args, **keywords)
        if operation == "get":
            return getattr(target, args[0])
        if operation == "set":
            return setattr(target, *args)
        if operation == "delete":
            return delattr(target, args[0])
        if operation == "plain":
            return tagged.plain_base(target)
        if operation not in OPERATORS:
            raise TypeError(f"no operation {operation}")
        return _BUILT_IN[operation](target, *args) if operation in _BUILT_IN else _special(target, operation)(*args)

    # ------------------------------------------------------------ values

    def encode(self, value: object) -> object:
        """JSON of a value; of what is not plain, a number and a description."""
        return tagged.encode(value, self._encode_other)

    def decode(self, value: object) -> Any:  # noqa: ANN401  any value
        """The value of JSON; a stand-in for an object of the other side."""
        return self._reader.decode(value)

    def _encode_other(self, value: object) -> object:
        kind = type(value)
        if issubclass(kind, StandIn):
            return {"yours": object.__getattribute__(value, "_number")}
        if issubclass(kind, _Meta):
            return {"yours": vars(value)["_number"]}
        name = f"{kind.__module__}.{kind.__name__}"
        if name in _STANDARD and kind is _standard(name):
            return {name: tagged.encode(_STANDARD[name][0](value), self._encode_other)}
        if _is_built_in(value):
            return {"built-in": getattr(value, "__name__", "NotImplemented")}
        if isinstance(value, BaseException):
            return self._raised(value)
        if isinstance(value, types.ModuleType) and self._is_guarded:
            raise tagged.NotPlainError("a module")
        return {"object": [self.number(value), self._description(value)]}

    def number(self, value: object) -> int:
        """Of an object of this side, which is kept."""
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return self._numbers[id(value)]

    def _description(self, value: object) -> object:
        """Of an object: the number of its class, which is described at first; of a class: what a stand-in for it needs."""
        if not isinstance(value, type):
            return self._class(type(value))
        return {"class": self._class(value)}

    def _class(self, kind: type) -> object:
        number = self.number(kind)
        if number in self._described:
            return [number]
        self._new.add(number)
        bases = [base for base in kind.__mro__[1:] if base is not object]
        return [
            number,
            {
                "name": str(kind.__name__)[:80],
                "built-in": next((base.__name__ for base in (kind, *bases) if _is_built_in(base)), ""),
                "bases": [self._class(base) for base in kind.__bases__ if not _is_built_in(base)],
                "operators": sorted(name for name in OPERATORS if _defines(kind, name)),
                "kind": next((name for known, name in _KINDS.items() if issubclass(kind, known)), ""),
                "raises": issubclass(kind, BaseException),
            },
        ]

    def _raised(self, error: BaseException) -> object:
        kind = type(error)
        try:
            args = self.encode([arg if _is_short(arg) else str(arg)[:MAX_TEXT] for arg in error.args])
        except BaseException:  # the text of an exception is the answer's code
            args = []
        number = None if _is_built_in(kind) or issubclass(type(kind), _Meta) else self.number(error)
        return {"exception": [self.encode(kind), args, number]}

    # ------------------------------------------------------------ stand-ins

    def owned(self, number: object) -> object:
        """An object of this side that the other side gives back."""
        return self._objects[_index(number)]

    def stand_in(self, number: object, description: Any) -> object:  # noqa: ANN401  parsed JSON
        """For an object of the other side; the same each time."""
        number = _index(number)
        if isinstance(description, dict):
            return self.stand_in_class(description["class"])
        if number not in self._stand_ins:
            kind = self.stand_in_class(description)
            value = object.__new__(kind)
            object.__setattr__(value, "_number", number)
            self._stand_ins[number] = value
        return self._stand_ins[number]

    def stand_in_class(self, description: Any) -> type:  # noqa: ANN401  parsed JSON
        """For a class of the other side."""
        number = _index(description[0])
        if number not in self._stand_ins:
            self._stand_ins[number] = self._made_class(number, description[1])
        kind = self._stand_ins[number]
        if not isinstance(kind, type):
            raise TypeError("no class")
        return kind

    def _made_class(self, number: int, about: dict[str, Any]) -> type:
        name = about["name"] if type(about["name"]) is str and about["name"].isidentifier() else "object"
        bases = [self.stand_in_class(base) for base in about["bases"][:8]]
        if about["raises"]:
            built_in = getattr(builtins, str(about["built-in"]), Exception)
            base = bases or [built_in if _is_exception(built_in) else Exception]
            return _Meta(name, (*base,), {"_number": number, "_end": self, "__getattr__": _exception_attribute})
        own: dict[str, Any] = {name: _FORWARDED[name] for name in about["operators"] if name in _FORWARDED}
        decides = name in self.operators or not self._is_guarded
        if not decides:
            own = {name: method for name, method in own.items() if name not in DECIDING}
        if about["built-in"] in _PLAIN_BASES:
            own |= {
                name: method
                for name, method in _BY_VALUE.items()
                if hasattr(getattr(builtins, about["built-in"]), name)
            }
        if about["kind"] == "coroutine":
            own |= {"__await__": _await, "send": _await_now, "throw": _await_now, "close": lambda self: None}
        own |= {"_number": number, "_end": self, "_built_in": str(about["built-in"]), "_kind": str(about["kind"])}
        local = self._local_class(name)
        if local is not None:
            bases = [local]
        try:
            return _Meta(name, _bases(bases), own)
        except TypeError:  # a class that cannot be inherited from
            return _Meta(name, (StandIn,), own)


def _bases(bases: list[type]) -> tuple[type, ...]:
    return (*bases, *(() if any(issubclass(base, StandIn) for base in bases) else (StandIn,)))


class _Meta(type):
    """The class of a stand-in for a class: calling it and its attributes are the other side's."""

    _number: int
    _end: Endpoint

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> "_Meta":
        if "_number" not in namespace and any("_number" in vars(base) for base in bases):
            raise TypeError("a class of the other side cannot be inherited from")
        return super().__new__(cls, name, bases, namespace)

    def __call__(cls, /, *args: object, **keywords: object) -> Any:  # noqa: ANN401  any value
        if "_number" in vars(cls):
            return cls._end.request("call", cls, *args, **keywords)
        return super().__call__(*args, **keywords)

    def __getattr__(cls, name: str) -> Any:  # noqa: ANN401  any value
        if "_number" not in vars(cls):
            raise AttributeError(name)
        return cls._end.request("get", cls, name)

    def __iter__(cls) -> Any:  # noqa: ANN401  of an Enum
        return iter(cls._end.request("__iter__", cls))

    def __len__(cls) -> int:
        return cls._end.request("__len__", cls)

    def __bool__(cls) -> bool:
        return True

    def __getitem__(cls, key: object) -> Any:  # noqa: ANN401  any value
        return cls._end.request("__getitem__", cls, key)


class StandIn(metaclass=_Meta):
    """Of an object of the other side. Its class has the operators of the object's class."""

    __slots__ = ("__weakref__",)
    _number: int
    _end: Endpoint
    _built_in = _kind = ""

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401  any value
        if name == "__class__":
            return _class_of(self)
        if name in ("_number", "_end"):
            return object.__getattribute__(self, name)
        found = _in_class(type(self), name)
        if isinstance(found, types.FunctionType | property | staticmethod | classmethod | types.WrapperDescriptorType):
            return object.__getattribute__(self, name)
        return self._end.request("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._end.request("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._end.request("delete", self, name)

    def __str__(self) -> str:
        return _exactly(str, self._end.request("__str__", self))

    def __repr__(self) -> str:
        return _exactly(str, self._end.request("__repr__", self))


# ---------------------------------------------------------------- what stand-ins do


def _forward(name: str) -> Callable[..., Any]:
    def ask(self: StandIn, *args: object) -> Any:  # noqa: ANN401  any value
        if name in ("__eq__", "__ne__") and not isinstance(args[0], StandIn) and self._end._is_guarded:
            return NotImplemented  # a plain value that is expected
        if name in DECIDING and name != "__hash__":
            object.__getattribute__(self, "_end").operator_decided = True
        if name == "__exit__":  # without the trace
            args = (*args[:2], None)
        value = self._end.request(name, self, *args)
        return _exactly(_RESULTS[name], value) if name in _RESULTS else value

    ask.__name__ = name
    return ask


def _exactly(kind: type, value: object) -> Any:  # noqa: ANN401  of this type
    if type(value) is not kind:
        raise TypeError(f"another type than {kind.__name__}")
    return value


def _call(self: StandIn, /, *args: object, **keywords: object) -> Any:  # noqa: ANN401  any value
    return self._end.request("call", self, *args, **keywords)


def _by_value(name: str) -> Callable[..., Any]:
    """An operator on what an object of a subclass of a built-in type holds, whatever the subclass says."""

    def operate(self: StandIn, *args: object) -> Any:  # noqa: ANN401  any value
        value = self._end.request("plain", self)
        return getattr(value, name)(*args)

    operate.__name__ = name
    return operate


def _await_now(self: StandIn, *_: object) -> None:
    raise StopIteration(self._end.request("__await__", self))


def _await(self: StandIn) -> Any:  # noqa: ANN401  an iterator
    return self._end.request("__await__", self)
    yield


def _exception_attribute(self: Any, name: str) -> Any:  # noqa: ANN401  an exception of the other side
    end, number = type(self)._end, self.__dict__.get("_instance")
    if number is None or name.startswith("__"):
        raise AttributeError(name)
    return end.request("get", Reference(number), name)


def _class_of(value: StandIn) -> type:
    kind = type(value)
    known = {"generator": types.GeneratorType, "function": types.FunctionType, "coroutine": types.CoroutineType}
    if kind._kind in known:
        return known[kind._kind]
    built_in = getattr(builtins, kind._built_in, None) if kind._built_in in _PLAIN_BASES else None
    return built_in if isinstance(built_in, type) else kind


def _in_class(kind: type, name: str) -> object:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


_PLAIN_BASES = ("int", "float", "str", "bytes", "list", "tuple", "set", "frozenset", "dict")
_RESULTS = {
    "__len__": int,
    "__bool__": bool,
    "__str__": str,
    "__repr__": str,
    "__int__": int,
    "__index__": int,
    "__float__": float,
}
_FORWARDED = {name: _forward(name) for name in OPERATORS} | {"__call__": _call}
_BY_VALUE = {name: _by_value(name) for name in DECIDING if not name.startswith("__i")}


class Reference(StandIn):
    """A number to send back."""

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "_number", number)


# ---------------------------------------------------------------- operations on objects of this side


def _guard(operation: str, target: object, args: Sequence[Any]) -> None:
    """What an answer may do with an object of a test."""
    is_public = operation in ("get", "set", "delete") and type(args[0]) is str and not args[0].startswith("_")
    if operation in ("get", "set", "delete") and not (is_public and not isinstance(target, _GUARDED)):
        raise AttributeError("not for an answer")
    if isinstance(target, types.ModuleType) or (operation == "call" and target in _NOT_FOR_ANSWERS):
        raise TypeError("not for an answer")


_NOT_FOR_ANSWERS = (getattr, setattr, eval, exec, compile, open, vars, globals, locals, dir, __import__, type)


def _special(target: object, name: str) -> Callable[..., object]:
    method = getattr(type(target), name)
    return lambda *args: method(target, *args)


def _awaited(target: Any) -> object:  # noqa: ANN401  a coroutine
    import asyncio

    return asyncio.new_event_loop().run_until_complete(target)


_BUILT_IN: dict[str, Callable[..., object]] = {
    "__len__": len,
    "__bool__": bool,
    "__str__": str,
    "__repr__": repr,
    "__iter__": iter,
    "__next__": next,
    "__reversed__": reversed,
    "__hash__": hash,
    "__int__": int,
    "__float__": float,
    "__contains__": lambda target, item: item in target,
    "__getitem__": lambda target, key: target[key],
    "__await__": _awaited,
}


# ---------------------------------------------------------------- values of the standard library


def _parts(*names: str) -> Callable[[Any], object]:
    return lambda value: [getattr(value, name) for name in names]


_STANDARD: dict[str, tuple[Callable[[Any], object], Callable[[Any, Any], object]]] = {  # how to write and to read
    "fractions.Fraction": (_parts("numerator", "denominator"), lambda kind, parts: kind(*parts)),
    "decimal.Decimal": (str, lambda kind, text: kind(text)),
    "collections.Counter": (dict, lambda kind, counts: kind(counts)),
    "collections.OrderedDict": (lambda value: list(value.items()), lambda kind, items: kind(items)),
    "collections.deque": (lambda value: [list(value), value.maxlen], lambda kind, parts: kind(*parts)),
    "builtins.range": (_parts("start", "stop", "step"), lambda kind, parts: kind(*parts)),
    "builtins.slice": (_parts("start", "stop", "step"), lambda kind, parts: kind(*parts)),
    "datetime.datetime": (lambda value: value.isoformat(), lambda kind, text: kind.fromisoformat(text)),
    "datetime.date": (lambda value: value.isoformat(), lambda kind, text: kind.fromisoformat(text)),
    "datetime.time": (lambda value: value.isoformat(), lambda kind, text: kind.fromisoformat(text)),
    "datetime.timedelta": (_parts("days", "seconds", "microseconds"), lambda kind, parts: kind(*parts)),
    "builtins.dict_keys": (list, lambda _, keys: dict.fromkeys(keys).keys()),
    "builtins.dict_items": (list, lambda _, items: dict(items).items()),
    "builtins.ellipsis": (str, lambda _, text: ...),
}


def _standard(name: str) -> type:
    """A type of the standard library, whose module is loaded here only if it is needed."""
    if name in _NAMELESS:
        return _NAMELESS[name]
    module, _, attribute = name.partition(".")
    return getattr(sys.modules.get(module) or importlib.import_module(module), attribute)


_NAMELESS = {
    "builtins.dict_keys": type({}.keys()),
    "builtins.dict_items": type({}.items()),
    "builtins.ellipsis": type(...),
}
_KINDS = {types.GeneratorType: "generator", types.FunctionType: "function", types.CoroutineType: "coroutine"}


def _others_of(end: Endpoint) -> dict[str, Callable[[Any, tagged.Reader], object]]:
    """How the values that are not plain are read."""

    def standard(name: str) -> Callable[[Any, tagged.Reader], object]:
        return lambda content, reader: _STANDARD[name][1](_standard(name), reader.decode(content))

    return {
        **{name: standard(name) for name in _STANDARD},
        "yours": lambda content, _: end.owned(content),
        "object": lambda content, _: end.stand_in(*content),
        "built-in": lambda content, _: _built_in(content),
        "exception": lambda content, reader: _exception(*content, reader),
    }


def _is_built_in(value: object) -> bool:
    """A function, class or constant of the module `builtins`."""
    if value is NotImplemented or value is Ellipsis:
        return value is NotImplemented
    name = getattr(value, "__name__", None) if isinstance(value, types.BuiltinFunctionType | type) else None
    return type(name) is str and getattr(builtins, name, None) is value


def _built_in(name: object) -> object:
    value = getattr(builtins, name) if type(name) is str else None
    if not _is_built_in(value):
        raise ValueError("not built in")
    return value


def _exception(kind: object, args: object, number: object, reader: tagged.Reader) -> BaseException:
    kind = reader.decode(kind)
    if not _is_exception(kind):
        raise TypeError("no exception")
    error = kind.__new__(kind)
    error.args = tuple(reader.decode(args))
    if number is not None:
        error.__dict__["_instance"] = _index(number)
    return error


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException) and not issubclass(kind, LostError)


def _is_short(arg: object) -> bool:
    return type(arg) in (int, float, bool, type(None)) or (type(arg) is str and len(arg) <= MAX_TEXT)


def _defines(kind: type, name: str) -> bool:
    """Whether a class has an operator that `object` has not."""
    found = next((vars(base)[name] for base in kind.__mro__ if base is not object and name in vars(base)), None)
    return found is not None


def _shape(value: object) -> object:
    """Of what the other side holds as well: what it holds, to see whether it was changed."""
    return tagged.encode(value, id) if type(value) in (list, dict, set, bytearray) else None


def _update(old: Any, new: Any) -> None:  # noqa: ANN401  a list, dict, set or bytearray
    """Make one like the other, in place; lists in lists as well, which a test may hold."""
    if type(old) is not type(new) or old is new:
        return
    if isinstance(old, list):
        held = [*old[: len(new)], *new[len(old) :]]
        old[:] = [_updated(one, other) for one, other in zip(held, new, strict=True)]
    elif isinstance(old, bytearray):
        old[:] = new
    else:
        old.clear()
        old.update(new)


def _updated(old: object, new: object) -> object:
    """The old one if it can be made like the new one."""
    if type(old) not in (list, dict) or type(old) is not type(new):
        return new
    _update(old, new)
    return old


def _index(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("no number of an object")
    return number


def _dictionary(message: object) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise UnreadableError
    return message


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _read_all(fd: int, count: int) -> bytes:
    parts = []
    while count:
        try:
            part = os.read(fd, min(count, 1 << 20))
        except OSError:
            raise LostError from None
        if not part:
            raise LostError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
