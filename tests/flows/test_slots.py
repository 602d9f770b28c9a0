"""Places are never handed out twice, and asking for too many means all."""

import threading
import time

from flows.slots import Slots


def test_no_more_places_are_taken_than_there_are() -> None:
    slots, lock = Slots(2), threading.Lock()
    working, most = 0, 0

    def work(wanted: int) -> None:
        nonlocal working, most
        with slots.taken(wanted):
            with lock:
                working += min(wanted, 2)
                most = max(most, working)
            time.sleep(0.01)
            with lock:
                working -= min(wanted, 2)

    threads = [threading.Thread(target=work, args=(wanted,)) for wanted in (1, 2, 1, 5, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 2
