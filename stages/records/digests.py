"""sha256 of sealed files, remembered beside the results: what has not changed since it was read is not read again.

Not changed means: size, inode, and the times of the last change of its bytes and of its entry are what they were. The last of these
no program sets, so a byte that was flipped is found though the file's time was put back. `ring verify` and `ring status` read every
byte whatever is remembered here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class RememberedDigests:
    """Digests of the files of one result; `digest` answers from memory where it can, `keep` writes down what is new."""

    def __init__(self, path: Path, *, read: Callable[[Path], str], write: Callable[[Path, Any], None]) -> None:
        """`path` holds them: name relative to the result's folder -> [size, inode, times, sha256]."""
        self._path, self._read, self._write = path, read, write
        self._known = _known(path)
        self._is_new = False

    def digest(self, file: Path, *, name: str) -> str:
        """sha256 of a file of the result."""
        state = _state(file)
        known = self._known.get(name, [])
        if known[:-1] != state:
            self._known[name] = [*state, self._read(file)]
            self._is_new = True
        return self._known[name][-1]

    def learn(self, file: Path, *, name: str, sha256: str) -> None:
        """Take in the sha256 of a file that was hashed while it was written."""
        self.note(name, _state(file), sha256)

    def known(self, name: str, state: list[Any]) -> str | None:
        """sha256 of what has no file here, if it was noted and is in the same state as then."""
        known = self._known.get(name, [])
        return known[-1] if known and known[:-1] == state else None

    def note(self, name: str, state: list[Any], sha256: str) -> None:
        """Take in the sha256 of something and the state that it has as long as its bytes do not change."""
        self._known[name] = [*state, sha256]
        self._is_new = True

    def keep(self) -> None:
        """Remember them."""
        if self._is_new:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write(self._path, self._known)
            self._is_new = False


def _known(path: Path) -> dict[str, list[Any]]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not there, or cut short: every file is read
        return {}


def _state(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
