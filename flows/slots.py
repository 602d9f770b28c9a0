"""How many processes of a chain work at once: a stage of several ranks takes as many places."""

import contextlib
import threading
from collections.abc import Generator


class Slots:
    """A number of places; whoever asks for more than there are takes all of them."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, wanted: int) -> Generator[None]:
        """Wait until so many places are free, and hold them."""
        wanted = min(wanted, self._count)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
