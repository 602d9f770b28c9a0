"""Which domains there are: ours, and those of one's own that RING_DOMAINS names, each a Python file called after its domain.

Names and paths alone, so that a recipe is checked without the judge; `data.domains.own` reads the files.
"""

import os
import re
from pathlib import Path

BUILT_IN = ("math", "code", "science", "gym")
VARIABLE = "RING_DOMAINS"  # files, parted as in PATH
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = (*BUILT_IN, "all", "harder")  # groups of an evaluation


def domain_names() -> tuple[str, ...]:
    """All of them, ours first. Raises ValueError as `own_domain_files`."""
    return (*BUILT_IN, *own_domain_files())


def own_domain_files() -> dict[str, Path]:
    """Name -> file, absolute, as the variable has them. Raises ValueError for what is no such file, and for a name that is taken."""
    found: dict[str, Path] = {}
    for text in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        path = Path(text).expanduser().absolute()
        if path.suffix != ".py" or not path.is_file():
            raise ValueError(
                f"{VARIABLE}: {text}: no such Python file (looked for {path}); name files such as riddles.py, parted by {os.pathsep!r}"
            )
        if not _NAME.fullmatch(path.stem) or path.stem in (*_TAKEN, *found):
            raise ValueError(
                f"{VARIABLE}: {text}: a domain is called after its file, and {path.stem!r} cannot be: needed is a name of small letters,"
                f" digits and _ that is none of {', '.join((*_TAKEN, *found))}; rename the file"
            )
        found[path.stem] = path
    return found
