"""Folders of published weights: a version has one of its own, so that a process that knows weights by their folder never takes others."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path


class Published:
    """The folders of the versions that may still be asked."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._times: Counter[int] = Counter()  # that a version was published

    def write(self, version: int, *, oldest: int, save: Callable[[Path], None]) -> Path:
        """Let `save` write a version's folder; those of versions before `oldest`, and after this one, go.

        A version that comes again, as after a roll back, has another folder than before.
        """
        self._times[version] += 1
        folder = self._folder(version)
        save(folder)
        kept = {self._folder(one).name for one in range(oldest, version + 1)}
        for other in self._root.iterdir():
            if other.name not in kept:
                shutil.rmtree(other)
        return folder

    def _folder(self, version: int) -> Path:
        again = self._times[version] - 1
        return self._root / (f"{version:06d}.{again}" if again > 0 else f"{version:06d}")
