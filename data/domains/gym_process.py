"""What runs in processes of its own: drawing problems of reasoning-gym, and its scorers.

The package is opened without its own start, which imports every generator and what each of them needs: half of it is of no use to a
verdict, and one part is under the GPL. In the process that draws, everything else is as usual. In the sandbox (`data/sandbox`), where
this file is the text that its server runs before the first answer, modules that only drawing needs are stand-ins.

In, for drawing: one JSON object on stdin, see `_serve`. Out: a line of JSON for each problem, or `{"error": ...}`.
"""

import importlib
import importlib.util
import json
import os
import sys
import types
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import Any

from data.sandbox import tagged

_PACKAGE = "reasoning_gym"
_ONLY_FOR_DRAWING = ("bfi", "cellpylib", "dateutil", "pycosat", "pyfiglet", "pytz", "tabulate", "yaml")
_SPARE = 200  # draws beyond those that were asked for, for prompts that come again


class _StandIn(types.ModuleType):
    """Anything may be imported from it, and nothing of that used."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def load(modules: Collection[str], *, stand_ins: bool) -> None:
    """Import modules of generators, named within the package, with what they share. Raises ImportError."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"no package {_PACKAGE}")
    (folder,) = spec.submodule_search_locations
    for name in ("", *sorted({f"/{module.partition('.')[0]}" for module in modules})):
        opened = sys.modules[_PACKAGE + name.replace("/", ".")] = types.ModuleType(_PACKAGE + name.replace("/", "."))
        opened.__path__ = [folder + name]
    for name in _ONLY_FOR_DRAWING if stand_ins else ():
        sys.modules.setdefault(name, _StandIn(name))
    for module in ("coaching", *sorted(modules)):  # coaching first: it and the factory import each other
        importlib.import_module(f"{_PACKAGE}.{module}")


def score(generator: str, settings: str, entry: str, answer: str) -> float:
    """What the generator's own scorer says; settings and entry are tagged JSON. Raises whatever it raises."""
    return float(_dataset(generator, tagged.loads(settings), seed=0, size=1).score_answer(answer, tagged.loads(entry)))


def _dataset(generator: str, settings: dict[str, Any], *, seed: int, size: int) -> Any:  # noqa: ANN401  of the package
    from reasoning_gym.factory import create_dataset  # ty: ignore[import-not-found]

    return create_dataset(generator, **settings, seed=seed, size=size)


# ---------------------------------------------------------------- drawing


def draw(part: dict[str, Any], seen: set[str]) -> Iterator[dict[str, Any]]:
    """`count` problems whose prompts are not among those `seen`, which they join.

    Raises ValueError where settings are refused, and where there are not so many.
    """
    generator, count = part["generator"], part["count"]
    size = count + _SPARE
    dataset = _opened(generator, part["settings"], seed=part["seed"], size=size)
    num_drawn = 0
    for index in range(size):
        if num_drawn == count:
            return
        _seed_the_shared(part["seed"] + index)
        found = dataset[index]
        if not found["answer"] or found["question"] in seen:
            continue
        seen.add(found["question"])
        num_drawn += 1
        yield {"generator": generator, "index": index, **_row(found)}
    if num_drawn < count:
        raise ValueError(f"{generator}: {num_drawn} new problems in {size} draws, {count} asked for: ask for fewer")


def _opened(generator: str, settings: dict[str, Any], *, seed: int, size: int) -> Any:  # noqa: ANN401  of the package
    try:
        return _dataset(generator, settings, seed=seed, size=size)
    except (TypeError, ValueError, AssertionError) as error:
        from reasoning_gym.factory import DATASETS  # ty: ignore[import-not-found]

        known = ", ".join(name for name in DATASETS[generator][1].__dataclass_fields__ if name not in ("seed", "size"))
        message = f"{generator}: settings {settings} are refused: {type(error).__name__}: {error}; there are {known}"
        raise ValueError(message) from error


def _seed_the_shared(seed: int) -> None:
    """Some generators draw from the process's own generators beside theirs."""
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed)


def _row(found: dict[str, Any]) -> dict[str, str]:
    """The prompt, the answer, and what the scorer gets to see, as tagged JSON: the question is the row's prompt."""
    entry = {"answer": found["answer"], "metadata": found["metadata"]}
    return {"question": found["question"], "answer": found["answer"], "entry": tagged.dumps(entry, _plain)}


def _plain(value: object) -> object:
    """A value of a subclass as what it holds; a fraction as a text, which no scorer reads."""
    return str(value) if isinstance(value, Fraction) else tagged.encode(tagged.plain_base(value))


def _serve() -> None:
    """Draw what stdin asks for: `modules`, `parts` (generator, settings, seed, count) and the prompts to `exclude`."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a generator prints is not a reply
    request = json.load(sys.stdin)
    try:
        load(request["modules"], stand_ins=False)
        seen = set(request["exclude"])
        for part in request["parts"]:
            for row in draw(part, seen):
                print(json.dumps(row), file=replies)
    except (ValueError, ImportError) as error:
        print(json.dumps({"error": str(error)}), file=replies)
    replies.flush()


if __name__ == "__main__":
    _serve()
